"use strict";
// Sends what a form of the API's description says, and shows what is answered, as text and nothing else.
const LONGEST = 20000;

function request(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const input of form.querySelectorAll("input[data-in]")) {
    if (input.dataset.in === "path") path = path.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (!input.value) continue;
    else if (input.dataset.in === "query") query.append(input.name, input.value);
    else if (input.dataset.in === "header") headers[input.name] = input.value;
  }
  const key = document.getElementById("key").value;
  if (key) headers.Authorization = `Bearer ${key}`;
  const body = form.elements.body ? form.elements.body.value : undefined;
  if (body !== undefined) headers["Content-Type"] = form.dataset.media;
  const asked = query.toString();
  return [asked ? `${path}?${asked}` : path, { method: form.dataset.method, headers, body }];
}

async function send(form) {
  const shown = form.querySelector("output");
  shown.textContent = "…";
  try {
    const answer = await fetch(...request(form));
    const reader = answer.body ? answer.body.getReader() : null;
    const decoder = new TextDecoder();
    let text = "";
    while (reader && text.length < LONGEST) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      shown.textContent = `${answer.status} ${answer.headers.get("Content-Type") || ""}\n${text.slice(0, LONGEST)}`;
    }
    if (reader) reader.cancel();
    if (!text) shown.textContent = `${answer.status}`;
  } catch (error) {
    shown.textContent = `Nothing was answered: ${error.message}`;
  }
}

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}
