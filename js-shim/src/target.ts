/** Paths that an upstream may take for others than they seem. */

/** A path that is encoded more often than this is refused unread. */
const MOST_LEVELS = 4;

/**
 * Whether a path, decoded as often as some server may decode it, leaves its folder, names another host or holds what no
 * path has. Servers differ: in how often they decode, in taking `\` for `/`, in cutting `;parameters` off, and in what
 * they make of overlong or wide forms of dots and slashes.
 */
export function isTreacherous(path: string): boolean {
  let text = path;
  for (let level = 0; level <= MOST_LEVELS; level += 1) {
    if (isBad(text)) return true;
    const decoded = decode(text);
    if (decoded === undefined) return true;
    if (decoded === text) return false;
    text = decoded;
  }
  return true;
}

function isBad(text: string): boolean {
  const folders = text.replaceAll("\\", "/");
  // No path has a control character, and some servers cut or skip them.
  return /[\x00-\x1f\x7f-\x9f]/.test(text) || folders.startsWith("//") || folders.split("/").some(isDots);
}

/** `.`, `..` and what becomes one of them where parameters, a query, or dots and blanks at the end are cut off. */
function isDots(segment: string): boolean {
  return /^[.\s]*\.[.\s]*([;?#]|$)/.test(segment);
}

/** The path with one level of escapes decoded, and other forms of dots and slashes as plain ones. */
function decode(text: string): string | undefined {
  const wide = text.replace(/%u([0-9a-f]{4})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  try {
    const decoded = decodeURIComponent(wide.replace(/%(?![0-9a-f]{2})/gi, "%25")).normalize("NFKC");
    return decoded
      .replace(/[\u2044\u2215\u29f8]/g, "/")
      .replace(/[\u2216\u29f5]/g, "\\")
      .replaceAll("\u3002", ".");
  } catch {
    // Bytes that are no UTF-8, an overlong dot or slash for one.
    return undefined;
  }
}
