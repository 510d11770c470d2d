// A writer's glyphs or a role's lines, what is misread before and now, and the accuracy by epoch.
const { widthOf, fixed, signed, escaped, line, marks, axes, picture, ticks } = page;
const when = epoch => epoch ? `after ${epoch} epoch${epoch > 1 ? "s" : ""}` : "global model";
const accuracies = met => met.rightAfter.map(right => 100 * right / met.predictions);

const glyphs = draw("writers", "writer", (met, epoch, place, client) => {
    // A glyph is a window onto the strip of all of them; only its frame and its caption change.
    if (place.dataset.client !== client) {
        place.dataset.client = client;
        place.innerHTML = `<ul class="glyphs">` + met.truth.map((_, i) =>
            `<li><span class="ink" style="background:url(${met.ink}) ${-54 * i}px 0/auto 54px"></span>` +
            `<span></span></li>`).join("") + `</ul><ul class="key"><li>A→4: it is an A, read as 4 (framed)</li>` +
            `<li>✔ dashed frame: now right</li><li>✘ thick frame: now wrong</li></ul>`;
    }
    place.querySelectorAll(".glyphs li").forEach((item, i) => {
        const truth = met.truth[i], was = met.read[0][i] === truth, read = met.read[epoch][i], now = read === truth;
        item.className = was && now ? "" : now ? "gained" : was ? "lost" : "misread";
        item.lastChild.textContent = (now ? truth : `${truth}→${read}`) + (was === now ? "" : now ? " ✔" : " ✘");
    });
});

const lines = draw("shakespeare", "role", (met, epoch, place, client) => {
    if (place.dataset.client !== client) {
        place.dataset.client = client;
        place.innerHTML = `<div class="text lines" tabindex="0" role="region" aria-label="unseen lines"></div>` +
            `<p class="key text-key"><span><u>wrong guess</u></span> <span class="flip">now right</span> ` +
            `<u class="flip">now wrong</u></p><div class="pair writing">` + ["before", "now"].map(name =>
            `<div><b></b><div class="text written" tabindex="0" role="region" aria-label="${name} it writes on"></div></div>`
        ).join("") + `</div>`;
    }
    place.querySelector(".lines").innerHTML = marked(met.text, met.right[epoch], met.right[0]);
    place.querySelectorAll(".written").forEach((box, i) => {
        box.previousSibling.textContent = `${["before", "now"][i]} (${when(i * epoch)}) it writes on:`;
        box.textContent = met.written[i * epoch];
    });
}, met => ` Both texts go on after “${escaped(met.after)}”, with the same random numbers: they part where the models ` +
    `disagree.`);

page.panel("writers", glyphs);
page.panel("roles", lines);

// What both panels share: titles, the accuracy curve, and the words.
function draw(name, kind, show, more = () => "") {
    const study = page.data.studies[name];
    return (state, place) => {
        const client = state[kind], epoch = state[`${kind}_epoch`], met = study.clients[client];
        if (!place.firstChild) place.innerHTML = `<div class="pair"><figure class="wide"><figcaption></figcaption>` +
            `<div></div></figure><figure><figcaption></figcaption><div></div></figure></div>`;
        const [left, right] = place.querySelectorAll("figure");
        const scores = accuracies(met);
        left.querySelector("figcaption").textContent = `${client}, ${study.label}, ${when(epoch)}`;
        show(met, epoch, left.querySelector("div"), client);
        right.querySelector("figcaption").textContent =
            `test accuracy: ${fixed(scores[0])} → ${fixed(scores[epoch])} %`;
        right.querySelector("div").innerHTML = curve(widthOf(right), study, scores, epoch);
        const error = Math.sqrt(scores[epoch] * (100 - scores[epoch]) / met.predictions);
        return `<b>${escaped(client)}</b>, <span class="${name === "writers" ? "synthetic" : ""}">` +
            `${escaped(study.label)}</span>, ${when(epoch)}: ${met.rightAfter[epoch]} of ${met.predictions} ` +
            `${study.tests} right, ${fixed(scores[epoch])} %; with the global model ${met.rightAfter[0]}, ` +
            `${fixed(scores[0])} %. <b>${met.nowRight[epoch]} ✔ now right, ${met.nowWrong[epoch]} ✘ now wrong</b>, ` +
            `${signed(scores[epoch] - scores[0])} points. It adapts with its ${met.trainExamples} ${study.trains}. ` +
            `Mean of all ${study.heldOut} held-out clients: ${fixed(study.mean[0])} → ${fixed(study.mean[epoch])} %. ` +
            `One client is an anecdote: ${met.predictions} predictions leave a standard error of at least ` +
            `${fixed(error)} points.${more(met)}`;
    };
}

function curve(width, study, scores, epoch) {
    const height = 260, [low, high] = study.range, last = page.data.epochs;
    const y = [Math.max(low - 0.3 * (high - low), 0), high + 0.05 * (high - low)];
    const { X, Y, behind } = axes({ width, height, x: [-0.5, last + 0.5], y, left: 34, xTicks: [0, 2, 4, 6, 8, 10],
        yTicks: ticks(...y), xName: "epochs of adaptation" });
    const points = values => values.map((value, i) => [X(i), Y(value)]);
    const grey = `stroke="var(--quiet)" style="stroke-dasharray:6 4"`, [x0, y0] = [44, height - 80];
    return picture(width, height, "test accuracy by epoch, of this client and the mean of all held-out clients", [
        behind, line(points(study.mean), grey), line(points(scores), `stroke="var(--c0)"`),
        ...points(scores).map(([x, py]) => marks.circle(x, py, 3.5, `fill="var(--c0)"`)),
        marks.diamond(X(epoch), Y(scores[epoch]), 8, `fill="var(--c1)" stroke="var(--ink)"`),
        line([[x0, y0], [x0 + 24, y0]], `stroke="var(--c0)"`), `<text x="${x0 + 32}" y="${y0 + 4}">this client</text>`,
        line([[x0, y0 + 20], [x0 + 24, y0 + 20]], grey),
        `<text x="${x0 + 32}" y="${y0 + 24}">mean of all ${study.heldOut} held-out</text>`,
    ].join(""));
}

// Runs of characters that are alike in whether they are guessed now and were before.
function marked(text, right, before) {
    const parts = [];
    for (let from = 0, to; from < text.length; from = to) {
        to = from + 1;
        while (to < text.length && right[to] === right[from] && before[to] === before[from]) to++;
        const wrong = right[from] === "0", flipped = right[from] !== before[from];
        let run = escaped(text.slice(from, to));
        if (wrong || flipped) run = run.replaceAll("\n", "↵\n");
        const tag = wrong ? "u" : "span";
        parts.push(wrong || flipped ? `<${tag}${flipped ? ' class="flip"' : ""}>${run}</${tag}>` : run);
    }
    return parts.join("");
}
