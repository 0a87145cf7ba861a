/** Finds request paths that an upstream may read as another path. */

/** A path with more levels of percent-encoding than this is refused. */
const MAX_LEVELS = 4;

/**
 * Whether a path, decoded once or several times, leaves its folder, names another host or has a control character. Servers
 * differ in how often they decode, whether `\` is `/`, whether they remove `;parameters`, and how they read overlong or
 * wide forms of dots and slashes.
 */
export function isAmbiguousPath(path: string): boolean {
  let text = path;
  for (let level = 0; level <= MAX_LEVELS; level += 1) {
    if (leavesFolder(text)) return true;
    const decoded = decode(text);
    if (decoded === undefined) return true;
    if (decoded === text) return false;
    text = decoded;
  }
  return true;
}

function leavesFolder(text: string): boolean {
  const folders = text.replaceAll("\\", "/");
  // Some servers remove control characters, or end the path at one.
  return /[\x00-\x1f\x7f-\x9f]/.test(text) || folders.startsWith("//") || folders.split("/").some(isDots);
}

/**
 * Whether a segment is `.` or `..`, or becomes one when its blanks and invisible characters are removed, or all from a
 * character on that is no letter and no digit: servers end names at parameters (`;`), queries and streams (`:`).
 */
function isDots(segment: string): boolean {
  // No part of it can match in two ways, so its time is that of the segment's length.
  return /^(?=[\s\p{Cf}]*\.)[.\s\p{Cf}]+([^\p{L}\p{N}.]|$)/u.test(segment);
}

/** Decodes one level of escapes, and replaces other forms of dots and slashes by plain ones. */
function decode(text: string): string | undefined {
  const wide = text.replace(/%u([0-9a-f]{4})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  try {
    const decoded = decodeURIComponent(wide.replace(/%(?![0-9a-f]{2})/gi, "%25")).normalize("NFKC");
    return (
      decoded
        .replace(/[\u2044\u2215\u29f8]/g, "/")
        // Windows' code pages for Japanese and Korean have the signs of yen and won at the place of `\`.
        .replace(/[\u2216\u29f5\u00a5\u20a9]/g, "\\")
        .replaceAll("\u3002", ".")
    );
  } catch {
    // Invalid UTF-8, such as an overlong dot or slash.
    return undefined;
  }
}
