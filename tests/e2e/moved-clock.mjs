// Loaded into a gateway before its own code (`NODE_OPTIONS=--import …`): its wall clock differs by the ms in the
// file `MOVED_CLOCK`, from one moment to the next, as when an administrator or a time server sets it. Timers and the
// monotonic clock are not changed.
import { readFileSync } from "node:fs";

const { MOVED_CLOCK = "" } = process.env;
const LOOK_MS = 20;

let offMs = 0;
const look = () => {
  const text = readFileSync(MOVED_CLOCK, "utf8");
  // Empty while it is written.
  if (text !== "") offMs = Number(text);
};
if (MOVED_CLOCK) {
  look();
  setInterval(look, LOOK_MS).unref();
  const RealDate = Date;
  const now = () => RealDate.now() + offMs;
  globalThis.Date = new Proxy(RealDate, {
    get: (target, key, receiver) => (key === "now" ? now : Reflect.get(target, key, receiver)),
    construct: (target, args, made) =>
      Reflect.construct(target, args.length > 0 ? args : [now()], made === globalThis.Date ? target : made),
    apply: () => new RealDate(now()).toString(),
  });
}
