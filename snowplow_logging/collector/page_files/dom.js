// Builds elements. What an event holds only ever becomes text: nothing here reads HTML.

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
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
