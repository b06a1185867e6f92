// The live page in place: new parts after each poll, values under the pointer and by keyboard.
"use strict";
(() => {
  const main = document.getElementById("main");
  const gone = document.getElementById("gone");
  const news = document.getElementById("news");
  const intervalMs = Number(main.dataset.interval) * 1000;
  let arrivedAt = performance.now();
  let renderedAt = "", changedAt = arrivedAt, reached = true, verdict = "";

  const seen = new Map(); // a part's id to its source as it arrived

  function partsOf(root) {
    return [...root.querySelectorAll("[data-part]")];
  }

  // Every part of the page that reads differently is replaced; what is in use is left alone.
  function replaceParts(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html").body;
    const live = document.getElementById("live");
    const names = (root) => partsOf(root).map((part) => part.id).join();
    const sources = partsOf(fresh).map((part) => [part.id, part.outerHTML]);
    if (names(live) !== names(fresh)) {
      keepPlace(live, () => live.replaceChildren(...fresh.childNodes));
      seen.clear();
      for (const [id, source] of sources) seen.set(id, source);
      return;
    }
    for (const [id, source] of sources) {
      const old = document.getElementById(id), part = fresh.querySelector(`#${id}`);
      if (seen.get(id) === source || isSelected(old)) continue;
      keepPlace(old, () => {
        for (const { name, value } of part.attributes) old.setAttribute(name, value);
        old.replaceChildren(...part.childNodes);
      });
      seen.set(id, source);
    }
  }

  function isSelected(part) {
    const chosen = document.getSelection();
    return !chosen.isCollapsed && part.contains(chosen.anchorNode);
  }

  // Replace something without losing the place of the focus, what is unfolded, or a reading.
  function keepPlace(root, replace) {
    const all = (selector) => [...root.querySelectorAll(selector)];
    const focus = root.contains(document.activeElement) ? document.activeElement : null;
    const place = focus && [focus.tagName, all(focus.tagName).indexOf(focus)];
    const open = all("details").map((details) => details.open);
    const readings = all(".plot").map((plot) => plot.dataset.index);
    const x = window.scrollX, y = window.scrollY;
    replace();
    all("details").forEach((details, i) => { details.open = open[i] ?? false; });
    all(".plot").forEach((plot, i) => {
      prepare(plot);
      if (readings[i] !== undefined) show(plot, Math.min(readings[i], points(plot).v[0].length - 1));
    });
    if (place) all(place[0])[place[1]]?.focus({ preventScroll: true });
    if (window.scrollY !== y) window.scrollTo(x, y);
  }

  function say(seconds, unit) {
    if (seconds === null) return "no data";
    if (unit === "ratio") return `${(seconds * 100).toFixed(1)}%`;
    if (unit !== "seconds") return String(Math.round(seconds * 100) / 100);
    const whole = Math.round(seconds), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60;
    return h ? `${h}h${m}m` : m ? `${m}m${whole % 60}s` : `${whole}s`;
  }

  // A plot takes the focus; arrow keys go from point to point, as the pointer does.
  function prepare(plot) {
    if (plot.hasAttribute("tabindex")) return;
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", "Values of this chart: arrow keys read them");
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const { x: [left, right], v: [{ length: count }] } = points(plot);
      const share = ((event.clientX - box.left) / box.width - left) / (right - left);
      show(plot, Math.max(0, Math.min(count - 1, Math.floor(share * count))));
    });
    plot.addEventListener("pointerleave", () => document.activeElement !== plot && hide(plot));
    plot.addEventListener("blur", () => hide(plot));
    plot.addEventListener("keydown", (event) => {
      const count = points(plot).v[0].length, at = Number(plot.dataset.index ?? count);
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: count - 1 }[event.key];
      if (event.key === "Escape") hide(plot);
      if (to === undefined) return;
      event.preventDefault();
      show(plot, Math.max(0, Math.min(count - 1, to)));
    });
  }

  function points(plot) {
    return JSON.parse(plot.dataset.points);
  }

  function show(plot, index) {
    const { t, step, unit, x: [left, right], v } = points(plot);
    const names = [...plot.parentElement.querySelectorAll(".legend li:not(.limit)")]
      .map((li) => li.firstChild.textContent.trim());
    let cross = plot.querySelector(".cross"), reading = plot.querySelector(".reading");
    if (!cross) {
      cross = document.createElement("div");
      cross.className = "cross";
      reading = document.createElement("output");
      reading.className = "reading";
      plot.append(cross, reading);
    }
    const share = left + ((index + 0.5) / v[0].length) * (right - left);
    cross.style.left = `${share * 100}%`;
    const clock = new Date((t + index * step) * 1000).toISOString().slice(11, 16);
    const values = v.map((line, i) => `${names.length > 1 ? `${names[i]} ` : ""}${say(line[index], unit)}`);
    reading.textContent = `${clock}  ${values.join(" · ")}`;
    plot.dataset.index = index;
  }

  function hide(plot) {
    delete plot.dataset.index;
    for (const shown of plot.querySelectorAll(".cross, .reading")) shown.remove();
  }

  async function update() {
    const limit = AbortSignal.timeout(Math.max(intervalMs, 2000));
    const response = await fetch(main.dataset.source, { cache: "no-store", signal: limit });
    if (response.status === 503) return; // busy: the next one will do
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    replaceParts(await response.text());
    arrivedAt = performance.now();
    const summary = document.getElementById("summary");
    document.title = summary.dataset.title;
    const words = summary.querySelector("h2").textContent.trim().replace(/\s+/g, " ");
    if (words !== verdict) news.textContent = verdict = words; // read out, once a change
    const icon = document.getElementById("icon");
    icon.href = icon.href.replace(/[a-z]+\.svg$/, `${summary.dataset.tone}.svg`);
  }

  // Red as soon as two updates are missing, and whatever the page showed before loses its colours.
  function judge() {
    const rendered = document.getElementById("rendered").dataset.at;
    if (rendered !== renderedAt) {
      renderedAt = rendered;
      changedAt = performance.now();
    }
    const oldMs = performance.now() - Math.min(arrivedAt, changedAt);
    const isGone = !reached && oldMs > 1.5 * intervalMs || oldMs > 4 * intervalMs + 15000;
    document.documentElement.classList.toggle("gone", isGone);
    const what = reached ? "The exporter does not renew this page." : "The exporter does not answer.";
    const words = `${what} What is below is ${say(oldMs / 1000, "seconds")} old.`;
    if (isGone && gone.textContent !== words) gone.textContent = words;
    gone.hidden = !isGone;
    if (isGone) document.title = "No answer · chat queue";
  }

  // Chats are asked for while their list is unfolded.
  const asked = new Set();

  async function fill(list) {
    if (asked.has(list)) return;
    asked.add(list);
    const held = list.querySelector(".held");
    const response = await fetch(list.dataset.source, { cache: "no-store" })
      .finally(() => asked.delete(list));
    const text = await response.text();
    if (response.status === 503 || isSelected(held)) return;
    const page = new DOMParser().parseFromString(text, "text/html");
    const found = response.ok && page.getElementById("list");
    keepPlace(held, () => found ? held.replaceChildren(...found.childNodes) : held.textContent = text);
  }

  function fillAll() {
    return Promise.all([...document.querySelectorAll("details.list[open]")].map(fill));
  }

  function unfold() {
    const list = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (list?.matches("details.list")) list.open = true;
  }

  async function turn() {
    if (!document.hidden || !reached) {
      try {
        await Promise.all([update(), fillAll()]);
        reached = true;
      } catch {
        reached = false;
      }
      judge();
    }
    setTimeout(turn, intervalMs);
  }

  for (const part of partsOf(document)) seen.set(part.id, part.outerHTML);
  for (const plot of document.querySelectorAll(".plot")) prepare(plot);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) update().then(() => { reached = true; }, () => { reached = false; }).then(judge);
  });
  for (const list of document.querySelectorAll("details.list")) {
    list.addEventListener("toggle", () => list.open && fill(list).catch(() => {}));
  }
  window.addEventListener("hashchange", unfold);
  unfold();
  setTimeout(turn, intervalMs);
})();
