/** This process, and whether others run. */

import { randomUUID } from "node:crypto";
import { readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** A process, as the lease's file names it; see `crate/src/lease/owner.rs`. */
export interface Process {
  pid: number;
  /** See {@link machine}. */
  host: string;
  /** Start of the process, in ms since 1970: process ids are reused. */
  started: number;
  /** Random name of the process, the same for all of its workers. */
  token: string;
}

/** In a worker thread: the process's start, in ms since 1970, and the token of all its workers. */
let spokenFor: Pick<Process, "started" | "token"> | undefined;

/** Makes this thread use the start and the token of the thread that started it. */
export function speakFor({ started, token }: Pick<Process, "started" | "token">): void {
  spokenFor = { started, token };
}

/** The namespace of process ids that a machine begins with (PROC_PID_INIT_INO of Linux). */
const FIRST_NAMESPACE = "pid:[4026531836]";

/**
 * The place where process ids are unique: the machine's name, and in a container its namespace of process ids too.
 * Containers may share a name, as those of OpenClaw's compose file do.
 */
export function machine(): string {
  let namespace = FIRST_NAMESPACE;
  try {
    namespace = readlinkSync("/proc/self/ns/pid");
  } catch {
    // Not Linux.
  }
  return namespace === FIRST_NAMESPACE ? hostname() : `${hostname()} ${namespace}`;
}

/** This process, with the token of all its workers or a new token. */
export function thisProcess(): Process {
  // Unlike the wall clock minus the uptime, this start does not change when the clock is set.
  const { started, token } = spokenFor ?? {
    started: Math.round(performance.timeOrigin),
    token: randomUUID(),
  };
  return { pid: process.pid, host: machine(), started, token };
}

/** Whether a process of this machine has an id. */
export function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
