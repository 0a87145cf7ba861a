/** Errors of options and settings. */

/** An invalid setting or option. The message names it, its value and the mend. */
export class SettingError extends Error {
  override name = "SettingError";
}

/** The error of a server that cannot listen on `host` and `port`; its cause is Node's error. */
export function listenError(error: NodeJS.ErrnoException, host: string, port: number): SettingError {
  return new SettingError(explained(error, host, port), { cause: error });
}

function explained(error: NodeJS.ErrnoException, host: string, port: number): string {
  const at = `${host}:${port}`;
  switch (error.code) {
    case "EADDRINUSE":
      return `--port ${port}: ${at} is taken already; choose another port, or 0 for a free one`;
    case "EACCES":
      return `--port ${port}: this user may not listen on ${at}; choose a port above 1023`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `--host ${host}: this machine has no such address; leave it out for 127.0.0.1`;
    default:
      return `--host ${host} --port ${port}: ${error.message}`;
  }
}

/**
 * Reads the option `--port`.
 *
 * @throws SettingError
 */
export function parsePort(value: string): number {
  const port = Number(value);
  if (/^\d{1,5}$/.test(value) && port <= 65_535) return port;
  throw new SettingError(`--port ${value}: a port is a number from 0 to 65535; 0 takes a free one`);
}
