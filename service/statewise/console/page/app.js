// Which page is shown: the part of the address behind #.

import { Live } from "./live.js";
import * as models from "./models.js";
import * as overview from "./overview.js";
import * as playground from "./playground.js";
import { span } from "./words.js";

const PAGES = { "": overview, models, playground };
const main = document.getElementById("main");
const state = document.getElementById("state");
const live = new Live();
let leave = () => {};

function show() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const page = PAGES[name] ?? overview;
  leave();
  main.replaceChildren();
  for (const link of document.querySelectorAll("nav a")) {
    const here = PAGES[link.hash.replace(/^#\/?/, "")] === page;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page.TITLE} · Statewise`;
  leave = page.show(main, live, rest) ?? (() => {});
}

function tell() {
  const { state: word, instance, version, started, now, addresses } = live.overview;
  state.dataset.state = word;
  state.textContent = word;
  document.getElementById("about").textContent =
    `statewise ${version} · up ${span(now - started)} · gRPC on ${addresses.grpc} · metrics on ${addresses.metrics} · instance ${instance}`;
}

live.addEventListener("told", tell);
live.addEventListener("lost", () => {
  state.dataset.state = "lost";
  state.textContent = "no answer";
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
show();
live.start();
