"use strict";
// One filter at a time, and a search within it; both are kept in the address, so that a link shows what its sender saw.
const section = document.getElementById("cases");
const find = document.getElementById("find");
const found = document.getElementById("found");
const buttons = [...section.querySelectorAll("button[data-show]")];
const cards = [...section.querySelectorAll("article")].map((card) => ({
  card,
  keys: new Set(card.dataset.in.split(" ")),
  words: card.textContent.toLowerCase(),
}));
let shown = section.dataset.open;

function draw() {
  const words = find.value.trim().toLowerCase();
  let count = 0;
  for (const { card, keys, words: own } of cards) {
    card.hidden = !keys.has(shown) || !own.includes(words);
    count += card.hidden ? 0 : 1;
  }
  for (const button of buttons) {
    button.setAttribute("aria-pressed", String(button.dataset.show === shown));
  }
  for (const note of section.querySelectorAll("[data-note]")) {
    note.hidden = note.dataset.note !== shown;
  }
  found.textContent = words ? `${count.toLocaleString("en")} of them hold “${find.value.trim()}”.` : "";
}

function remember() {
  const state = new URLSearchParams({ show: shown });
  if (find.value.trim()) {
    state.set("find", find.value.trim());
  }
  history.replaceState(null, "", `#${state}`);
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  if (buttons.some((button) => button.dataset.show === state.get("show"))) {
    shown = state.get("show");
  }
  find.value = state.get("find") ?? find.value;
  draw();
}

for (const button of buttons) {
  button.addEventListener("click", () => {
    shown = button.dataset.show;
    draw();
    remember();
  });
}
find.addEventListener("input", () => {
  draw();
  remember();
});
addEventListener("hashchange", recall);
recall();
