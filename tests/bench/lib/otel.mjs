// OpenTelemetry's SDK for JavaScript doing the same: a span for each message and each model call, in batches, by OTLP/HTTP.
import { SpanKind } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

/** @param {string} url */
export function startOtel(url) {
  const exporter = new OTLPTraceExporter({ url: `${url}/v1/traces` });
  // Its default of 2,048 loses spans at ten thousand events a second; pauses and sizes are its defaults.
  const processor = new BatchSpanProcessor(exporter, { maxQueueSize: 100_000 });
  const provider = new BasicTracerProvider({ spanProcessors: [processor] });
  const tracer = provider.getTracer("agentwatch-bench");

  /** @param {any} event */
  const onCall = (event) => {
    const { usage = {}, durationMs = 0, provider: system, model } = event;
    const failed = event.type === "model.call.error";
    const span = tracer.startSpan(`chat ${model}`, {
      kind: SpanKind.CLIENT,
      startTime: Date.now() - durationMs,
      attributes: {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": system,
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": usage.input ?? 0,
        "gen_ai.usage.output_tokens": usage.output ?? 0,
        "openclaw.session.key": event.sessionKey,
        "openclaw.run.id": event.runId,
        "openclaw.cost.usd": usage.cost?.total ?? 0,
        ...(failed ? { "error.type": event.failureKind ?? "error" } : {}),
      },
    });
    span.end();
  };

  /** @param {string} name @param {any} event @param {any} ctx */
  const onMessage = (name, event, ctx) => {
    const span = tracer.startSpan(name, {
      kind: SpanKind.CONSUMER,
      attributes: {
        "messaging.system": ctx.channelId,
        "messaging.message.conversation_id": ctx.conversationId ?? "",
        "messaging.peer": event.from ?? event.to,
      },
    });
    span.end();
  };

  return {
    /** @param {import("./events.mjs").Told} told */
    handle: ({ hook, event, ctx }) => {
      if (event.type === "model.call.completed" || event.type === "model.call.error") onCall(event);
      if (hook === "message_received" || hook === "message_sent") onMessage(hook, event, ctx);
    },
    stop: () => provider.shutdown(),
  };
}
