// Several models asked at once. Whatever a model writes becomes text, never markup: only `textContent` and text
// nodes are used for it.
"use strict";

(() => {
  const at = (id) => document.getElementById(id);
  const config = JSON.parse(at("chat").dataset.config);
  const models = new Map(config.models.map((model) => [model.key, model]));
  const address = `/runs/${config.run}/chat`;
  const turns = []; // {question, seed, cards, stopped}; a card holds one model's answer
  let chosen = config.chosen;
  let asking = null; // the AbortController of what is being asked

  // --- text ----------------------------------------------------------------------------------------------
  // control characters as their pictures: a terminal's codes and marks of direction do nothing but show
  const visible = (text) =>
    text
      .replace(/\r\n/g, "\n")
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (c) => String.fromCharCode(c === "\u007f" ? 0x2421 : 0x2400 + c.charCodeAt(0)))
      .replace(/[\u0080-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function button(label, act) {
    const element = make("button", label);
    element.type = "button";
    element.addEventListener("click", () => act(element));
    return element;
  }

  async function copy(text, from) {
    const label = from.textContent;
    try {
      await navigator.clipboard.writeText(text);
      from.textContent = "Copied";
    } catch { // without https or leave of the user, a browser has no clipboard
      prompt("Copy this:", text);
    }
    setTimeout(() => { from.textContent = label; }, 1200);
  }

  // --- which models --------------------------------------------------------------------------------------
  function showChoices() {
    const box = at("chat-choices");
    box.replaceChildren();
    for (const model of models.values()) {
      const label = make("label", undefined, model.fault ? "check off" : "check");
      const input = make("input");
      input.type = "checkbox";
      input.name = "model";
      input.value = model.key;
      input.checked = chosen.includes(model.key);
      input.disabled = Boolean(model.fault) && !input.checked;
      label.title = model.fault || model.note || `asked in the ${model.style} style`;
      label.append(input, model.key);
      box.append(label);
    }
  }

  at("chat-choices").addEventListener("change", () => {
    const ticked = [...at("chat-choices").querySelectorAll("input:checked")].map((input) => input.value);
    chosen = ticked;
    at("chat-send").disabled = !chosen.length;
    keepAddress();
  });
  at("chat-models").addEventListener("submit", (event) => event.preventDefault());
  at("chat-other")?.addEventListener("change", async (event) => {
    const run = event.target.value;
    event.target.value = "";
    if (!run) return;
    const answer = await fetch(`${address}/models?of=${encodeURIComponent(run)}`, { headers: { accept: "application/json" } });
    const found = await answer.json();
    if (!answer.ok) return say(found.error);
    for (const model of found) models.set(model.key, model);
    showChoices();
    say(`${found.length} models of ${run}.`);
  });

  // --- settings and the address --------------------------------------------------------------------------
  const settings = () => ({
    seed: Number(at("chat-seed").value),
    temperature: Number(at("chat-temperature").value),
    top_p: Number(at("chat-top-p").value),
    max_tokens: Number(at("chat-max-tokens").value),
    style: at("chat-style").value,
  });

  function link(asked) {
    const { temperature, top_p, max_tokens, style } = asked.at(-1)?.settings ?? settings();
    const query = new URLSearchParams();
    for (const key of asked.at(-1)?.keys ?? chosen) query.append(key.includes(":") ? "with" : "stage", key);
    for (const turn of asked) {
      query.append("q", turn.question);
      query.append("seed", turn.seed);
    }
    if (!asked.length) query.append("seed", at("chat-seed").value);
    for (const [name, value] of Object.entries({ temperature, top_p, max_tokens, style })) query.append(name, value);
    return `${address}?${query}`;
  }

  // the address keeps models and settings, not the questions: a browser that starts again asks nothing by itself
  const keepAddress = () => history.replaceState(null, "", link([]));
  at("chat-form").addEventListener("change", (event) => { if (event.target.id !== "chat-question") keepAddress(); });

  // --- a conversation ------------------------------------------------------------------------------------
  const styleOf = (key, style) => (style === "own" ? models.get(key).style : style);
  // a stopped turn is not part of what is said next: its text would depend on when it was stopped; nor is one
  // that nobody answered
  const spoken = () => turns.filter((turn) => !turn.stopped && [...turn.cards.values()].some((card) => card.text !== undefined));

  function history_of(key, before) {
    const told = [];
    for (const turn of before) {
      const card = turn.cards.get(key);
      if (card?.text === undefined) continue;
      told.push({ role: "user", content: turn.question }, { role: "assistant", content: card.text });
    }
    return told;
  }

  async function ask(question, seed) {
    const given = settings();
    const before = spoken();
    const turn = { question, seed, keys: [...chosen], settings: { ...given, seed }, cards: new Map(), stopped: false };
    const section = make("section", undefined, "turn");
    section.append(make("h2", visible(question)));
    turn.note = make("p", `seed ${seed}, temperature ${given.temperature}, top-p ${given.top_p}, at most ${given.max_tokens} tokens`, "note");
    const grid = make("div", undefined, "answers");
    section.append(turn.note, grid);
    turn.section = section;
    for (const key of turn.keys) {
      const card = makeCard(key, styleOf(key, given.style), before);
      turn.cards.set(key, card);
      grid.append(card.box);
    }
    turns.push(turn);
    at("chat-turns").append(section);
    at("chat-empty").hidden = true;
    section.scrollIntoView({ block: turns.length > 1 ? "start" : "nearest" });
    await stream(turn, before);
  }

  async function stream(turn, before) {
    const mine = asking = new AbortController();
    const free = () => { // verdicts may still come; the next question need not wait for them
      if (asking === mine && !cards.some((card) => card.going)) { asking = null; showDoing(); }
    };
    showDoing();
    const cards = [...turn.cards.values()];
    const body = {
      models: turn.keys.map((key) => ({ model: key, turns: history_of(key, before) })),
      question: turn.question,
      turn: before.length,
      ...turn.settings,
    };
    try {
      const answer = await fetch(`${address}/ask`, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(body),
        signal: mine.signal,
      });
      if (!answer.ok) {
        const { error } = await answer.json();
        cards.forEach((card) => card.fail(error));
        return;
      }
      await readLines(answer.body, (event) => {
        if ("truth" in event) turn.known = event;
        else cards[event.at].take(event, turn);
        free();
      });
      cards.forEach((card) => card.going && card.fail("The stream of answers ended early; is the server still there? Ask again."));
    } catch (error) {
      if (error.name === "AbortError") {
        turn.stopped = true;
        cards.forEach((card) => card.going && card.stop());
        say("Stopped.");
      } else {
        cards.forEach((card) => card.going && card.fail("The server can't be reached. Is `r1 ui` still running? Ask again."));
      }
    } finally {
      if (asking === mine) asking = null;
      showDoing();
    }
  }

  async function readLines(body, use) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (held + value).split("\n");
      held = lines.pop();
      for (const line of lines) if (line) use(JSON.parse(line));
    }
  }

  // --- one model's answer --------------------------------------------------------------------------------
  function makeCard(key, style, before) {
    const box = make("article", undefined, "answer");
    const head = make("header");
    const title = make("h3", key);
    head.append(title, make("small", `${style} style`));
    const mark = make("span", undefined, "mark");
    head.append(mark);
    const wait = make("p", "asked", "wait");
    const fold = make("details");
    const label = make("summary", "Reasoning");
    const thought = make("pre", undefined, "thought");
    fold.open = true;
    fold.hidden = true;
    fold.append(label, thought);
    const said = make("pre", undefined, "said");
    box.append(head, wait, fold, said);
    if (style === "zero" && before.length) {
      box.append(make("p", "In the zero style each question stands alone: this one was asked without the earlier ones.", "note"));
    }
    box.setAttribute("aria-busy", "true");
    box.setAttribute("aria-label", `Answer of ${key}`);
    const card = { box, key, going: true, text: undefined };

    const over = () => {
      card.going = false;
      wait.remove();
      box.removeAttribute("aria-busy");
    };
    card.fail = (sentence) => {
      over();
      const fault = make("p", sentence, "fault");
      box.append(fault);
      say(`${key}: ${sentence}`);
    };
    card.stop = () => {
      over();
      box.append(make("p", "Stopped. What it said so far is not part of the conversation.", "note"));
    };
    card.take = (event, turn) => {
      if (event.state === "waiting") wait.textContent = "waits: as many models are in memory as may be";
      else if (event.state === "loading") wait.textContent = "loading the model";
      else if (event.state === "answering") { wait.textContent = "reading the question"; card.place = `${event.device}, ${event.dtype}`; }
      else if ("piece" in event) {
        wait.textContent = "answering";
        const into = event.dim ? thought : said;
        if (event.dim) fold.hidden = false;
        into.append(visible(event.piece));
      } else if ("done" in event) finish(event.done, turn);
      else if ("verdict" in event) judge(event.verdict, turn);
      else if ("fault" in event) card.fail(event.fault);
      else if (event.end && card.going) over();
    };

    function finish(done, turn) {
      card.text = done.text;
      over();
      fold.open = false;
      if (done.summary !== null) { // without the tags; a malformed text keeps them, so that one sees why
        fold.hidden = done.reasoning === null;
        thought.textContent = visible(done.reasoning ?? "");
        said.textContent = visible(done.summary);
      }
      label.textContent = `Reasoning, ${words(thought.textContent)}`;
      if (done.fault) {
        const why = make("p", undefined, "why");
        why.append(make("b", "Why not: "), done.fault);
        box.append(why);
      }
      const rate = done.tokens_per_second === null ? "" : `${done.tokens_per_second.toFixed(0)} tokens/s`;
      const mean = done.mean_logprob === null ? "" : `mean logprob ${done.mean_logprob.toFixed(3)}`;
      const format = done.cut_off ? "cut off" : done.fault ? "malformed" : "well formed";
      const numbers = make("p", [format, `${done.num_tokens} tokens`, rate, mean].filter(Boolean).join(" · "), "numbers");
      numbers.title = card.place ?? "";
      box.append(numbers);
      const after = make("div", undefined, "after");
      after.append(button("Copy answer", (from) => copy(done.summary ?? done.text, from)));
      after.append(button("Copy all", (from) => copy(done.text, from)));
      for (const one of after.children) one.setAttribute("aria-label", `${one.textContent} of ${key}`);
      if (done.summary !== null) {
        const raw = make("details");
        raw.append(make("summary", "As the model wrote it"), make("pre", visible(done.text)));
        box.append(raw);
      }
      box.append(after);
      if (!turn.known) say(`${key} has answered${done.fault ? `, malformed: ${done.fault}` : ""}.`);
      else showTruth(turn);
    }

    function judge(verdict, turn) {
      if (verdict.fault) return void box.append(make("p", verdict.fault, "note"));
      if (verdict.correct === null || verdict.correct === undefined) {
        mark.textContent = "not checked";
      } else {
        mark.textContent = verdict.correct ? "right" : "wrong";
        mark.classList.add(verdict.correct ? "right" : "wrong");
      }
      const took = verdict.answer === null || verdict.answer === undefined
        ? "The verifier found no answer: a malformed text has none."
        : `The verifier took as the answer: ${visible(verdict.answer).slice(0, 300)}`;
      const more = !verdict.correct && verdict.lenient_correct ? " Without regard to the format it would be right." : "";
      box.querySelector(".numbers")?.before(make("p", took + more, "note"));
      say(`${key}: ${mark.textContent}.`);
    }
    return card;
  }

  function showTruth(turn) {
    if (turn.told) return;
    turn.told = true;
    const { truth, where } = turn.known;
    const text = truth === null ? `A question of the ${where}; it has no one right answer.` : `Right answer: ${visible(truth).slice(0, 500)} (from the ${where})`;
    turn.note.after(make("p", text, "note"));
  }

  const words = (text) => {
    const num = text.trim().length;
    return `${num} character${num === 1 ? "" : "s"}`;
  };
  const say = (text) => { at("chat-says").textContent = text; };

  // --- doing ---------------------------------------------------------------------------------------------
  function showDoing() {
    const busy = asking !== null;
    at("chat-stop").hidden = !busy;
    at("chat-send").hidden = busy;
    for (const id of ["chat-again", "chat-new", "chat-link", "chat-address"]) at(id).hidden = busy || !turns.length;
    at("chat-address").href = link(linked());
  }
  // what a link asks again: what has been said, and a last question that was stopped
  const linked = () => { const said = spoken(); return turns.filter((turn) => said.includes(turn) || turn === turns.at(-1)); };

  function send() {
    const question = at("chat-question").value.trim();
    if (asking || !question || !chosen.length || !at("chat-form").reportValidity()) return;
    if (turns.length && at("chat-next").checked) at("chat-seed").value = Number(at("chat-seed").value) + 1;
    at("chat-question").value = "";
    if (at("chat-ready")) at("chat-ready").value = "";
    keepAddress();
    ask(question, settings().seed);
  }
  function again() {
    if (asking || !turns.length) return;
    const last = turns.pop();
    last.section.remove();
    at("chat-seed").value = last.seed + 1;
    keepAddress();
    ask(last.question, last.seed + 1);
  }
  at("chat-form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  at("chat-question").addEventListener("keydown", (event) => {
    // Enter also ends the input of a Chinese character: then it is not for us
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  at("chat-ready")?.addEventListener("change", (event) => {
    at("chat-question").value = event.target.value;
    at("chat-question").focus();
  });
  at("chat-stop").addEventListener("click", () => asking?.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && asking && !at("keys-dialog").open) asking.abort();
    else if (event.key === "Escape" && document.activeElement === at("chat-question")) at("chat-question").blur();
  });
  at("chat-again").addEventListener("click", again);
  at("chat-new").addEventListener("click", () => {
    turns.length = 0;
    at("chat-turns").replaceChildren();
    at("chat-empty").hidden = false;
    showDoing();
    at("chat-question").focus();
  });
  at("chat-link").addEventListener("click", (event) => copy(new URL(link(linked()), location.href).href, event.currentTarget));

  // --- begin ---------------------------------------------------------------------------------------------
  showChoices();
  showDoing();
  at("chat-send").disabled = !chosen.length;
  if (config.draft) at("chat-question").value = config.draft; // a link on another site only fills it in
  (async () => {
    for (const [index, question] of config.questions.entries()) {
      const seed = config.seeds[index] ?? config.seeds.at(-1) ?? 0;
      at("chat-seed").value = seed;
      if (question.trim()) await ask(question, seed);
      if (turns.at(-1)?.stopped) return;
    }
    if (config.questions.length) keepAddress();
  })();
})();
