// What is pasted from Word, a browser or a CMS becomes Markdown. It is parsed as a document of its own, in which nothing
// runs and nothing is fetched, and only its words, lists, headings and links come over.
"use strict";

const SKIPPED = new Set(["SCRIPT", "STYLE", "HEAD", "TITLE", "META", "LINK", "IFRAME", "OBJECT", "EMBED", "SVG", "MATH", "TEMPLATE", "NOSCRIPT", "FORM", "INPUT", "BUTTON", "SELECT", "TEXTAREA", "AUDIO", "VIDEO", "CANVAS"]);
const BLOCKS = new Set(["P", "DIV", "SECTION", "ARTICLE", "HEADER", "FOOTER", "MAIN", "ASIDE", "FIGURE", "FIGCAPTION", "TABLE", "TBODY", "THEAD", "TR", "DL", "DT", "DD", "ADDRESS", "PRE"]);
const DEEPEST = 60;

// The Markdown of some HTML.
function markdownOf(html) {
  const body = new DOMParser().parseFromString(html, "text/html").body;
  const tidy = (text) => text.replace(/[ \t]+\n/g, "\n").replace(/\n{3,}/g, "\n\n").trim();
  return wordLists(tidy(blocks(body, 0)));
}

// Word writes its lists as paragraphs that begin with a bullet of their own.
function wordLists(text) {
  return text.replace(/^[·•▪◦§–o]\s{1,}(?=\S)/gmu, "- ").replace(/^(- .*)\n\n(?=- )/gm, "$1\n");
}

function blocks(node, depth) {
  if (depth > DEEPEST) return node.textContent;
  let out = "";
  for (const child of node.childNodes) out += block(child, depth);
  return out;
}

function block(node, depth) {
  if (node.nodeType === Node.TEXT_NODE) return escaped(node.data.replace(/\s+/g, " "));
  if (node.nodeType !== Node.ELEMENT_NODE || SKIPPED.has(node.nodeName.toUpperCase()) || hidden(node)) return "";
  const inside = () => blocks(node, depth + 1);
  switch (node.nodeName) {
    case "BR": return "\n";
    case "HR": return "\n\n---\n\n";
    case "H1": case "H2": case "H3": return `\n\n## ${oneLine(inside())}\n\n`;
    case "H4": case "H5": case "H6": return `\n\n### ${oneLine(inside())}\n\n`;
    case "B": case "STRONG": return isNormal(node) ? inside() : wrapped(inside(), "**");
    case "I": case "EM": return wrapped(inside(), "*");
    case "A": return link(node, inside());
    case "UL": case "OL": return `\n\n${list(node, depth)}\n\n`;
    case "LI": return `\n- ${oneLine(inside())}`;
    case "BLOCKQUOTE": return `\n\n${inside().trim().replace(/^/gm, "> ")}\n\n`;
    case "TD": case "TH": return `${oneLine(inside())} `;
    case "SPAN": return spanned(node, inside());
    default: return BLOCKS.has(node.nodeName) ? `\n\n${inside().trim()}\n\n` : inside();
  }
}

function list(node, depth) {
  let number = Number(node.getAttribute("start")) || 1;
  let out = "";
  for (const child of node.children) {
    if (child.nodeName === "UL" || child.nodeName === "OL") out += list(child, depth + 1).replace(/^/gm, "  ") + "\n";
    if (child.nodeName !== "LI") continue;
    const mark = node.nodeName === "OL" ? `${number++}. ` : "- ";
    const text = blocks(child, depth + 1).trim().replace(/\n{2,}/g, "\n").replace(/\n/g, `\n${" ".repeat(mark.length)}`);
    out += `${mark}${text}\n`;
  }
  return out.trimEnd();
}

function link(node, text) {
  const target = (node.getAttribute("href") || "").trim();
  const words = oneLine(text);
  if (!/^(https?:|mailto:)/i.test(target) || !words) return text;
  const safe = target.replace(/[\s<>()\\]/g, (sign) => `%${sign.charCodeAt(0).toString(16).padStart(2, "0")}`);
  return words === escaped(target) ? `<${safe}>` : `[${words}](${safe})`;
}

// Google's editor and Word say in a style what others say with an element.
function spanned(node, text) {
  const style = (node.getAttribute("style") || "").toLowerCase();
  if (/mso-list:\s*ignore/.test(style)) return `${text.trim()} `;
  let out = text;
  if (/font-weight:\s*(bold|[6-9]00)/.test(style)) out = wrapped(out, "**");
  if (/font-style:\s*italic/.test(style)) out = wrapped(out, "*");
  return out;
}

const hidden = (node) => /display:\s*none|mso-hide:\s*all/i.test(node.getAttribute("style") || "");
const isNormal = (node) => /font-weight:\s*normal/i.test(node.getAttribute("style") || "");
const oneLine = (text) => text.replace(/\s+/g, " ").trim();
const escaped = (text) => text.replace(/\u00a0/g, " ").replace(/([\\*_`[\]<])/g, "\\$1");

function wrapped(text, mark) {
  const words = text.trim();
  if (!words || words.includes("\n\n")) return text;
  return text.replace(words, () => `${mark}${words}${mark}`);
}
