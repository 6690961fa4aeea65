// Builds elements. What an event holds only ever becomes text: nothing here reads HTML.

// What cannot be seen, or turns the text around it: by its sign, or by its number.
const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g;

export function visible(text) {
  return text.replace(UNSEEN, (sign) => {
    const code = sign.charCodeAt(0);
    return code < 32 ? String.fromCharCode(0x2400 + code) : `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null).map((child) => (typeof child === "string" ? visible(child) : child)));
  return made;
}

export const byId = (id) => document.getElementById(id);

const two = (number) => String(number).padStart(2, "0");

export function clock(milliseconds, parts = 4) {
  const time = new Date(milliseconds);
  const whole = [time.getHours(), time.getMinutes(), time.getSeconds()].slice(0, Math.min(parts, 3));
  const text = whole.map(two).join(":");
  return parts > 3 ? `${text}.${String(time.getMilliseconds()).padStart(3, "0")}` : text;
}

// A time of another day says which: "11-28 14:05".
export function moment(milliseconds, parts = 4) {
  const time = new Date(milliseconds);
  if (time.toDateString() === new Date().toDateString()) return clock(milliseconds, parts);
  return `${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock(milliseconds, 2)}`;
}

export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, { cache: "no-store", ...options });
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}
