// Above: a column for each knob, the others held where they are. Below: who has which labels.
const { widthOf, fixed, signed, escaped, line, marks, axes, picture, ticks } = page;
const KNOBS = {
    style: "style: how far hands differ",
    label_skew: "label skew: how far classes differ",
    mean_examples: "examples per writer",
};
const DARKEST = 0.3;  // share of a client's examples from which on a label has the darkest shade
const given = page.data;
const gainAt = point => given.gains[Object.keys(KNOBS).map(knob => point[knob]).join(" ")];
const bounds = Object.values(given.gains).flatMap(({ low, high }) => [low, high]);
const RANGE = [Math.min(...bounds) - 4, Math.max(...bounds) + 4];

page.panel("knobs", (state, place) => {
    const width = widthOf(place), across = width < 560 ? 1 : 3;
    place.innerHTML = `<p class="quiet" style="margin:0">Each column turns one knob and leaves the others where ` +
        `their sliders stand; the band is where its own slider stands.</p><div style="display:flex;flex-wrap:wrap">` +
        Object.keys(KNOBS).map((knob, i) =>
            column(Math.floor(width / across), knob, state, across === 1 || i === 0)).join("") +
        `</div><ul class="key"><li>${sign("circle", "var(--c0)")}initial</li><li>${sign("square", "var(--c1)")}` +
        `personalized</li><li>${sign("diamond", "var(--ink)")}gain with its 95 % interval</li></ul>`;
    const { initial, personalized, gain, low, high, writers } = gainAt(state);
    return `<span class="synthetic">${escaped(given.label)}</span>: initial ${fixed(initial)} % → personalized ` +
        `${fixed(personalized)} %, a gain of <b>${signed(gain)} points</b> [${fixed(low)}, ${fixed(high)}], ` +
        `over ${writers} held-out writers (recorded, ${given.seeds} seeds).` +
        (low <= 0 ? " The interval holds 0: whether they gain at all is not decided here." : "");
});

function sign(mark, colour) {
    return `<svg width="16" height="14" viewBox="0 0 16 14" aria-hidden="true">` +
        `${marks[mark](8, 7, 4.5, `fill="${colour}"`)}</svg>`;
}

function column(width, knob, state, named) {
    const values = given.knobs[knob], along = values.map(value => gainAt({ ...state, [knob]: value }));
    const chosen = values.indexOf(state[knob]), x = [-0.5, values.length - 0.5];
    const places = values.map((_, i) => i), names = Object.fromEntries(values.map((value, i) => [i, value]));
    const shared = { width, x, xTicks: places, names, left: 34, right: 8 };
    const above = axes({ ...shared, height: 190, y: [0, 104], yTicks: [0, 25, 50, 75, 100], top: 24, bottom: 10,
        names: Object.fromEntries(places.map(i => [i, ""])), yName: named ? "accuracy, %" : "" });
    const below = axes({ ...shared, height: 200, y: RANGE, yTicks: ticks(...RANGE, 6), top: 24,
        xName: KNOBS[knob], yName: named ? "gain, points" : "" });
    const half = 0.32 * (above.X(1) - above.X(0));
    const band = bottom => `<rect x="${above.X(chosen) - half}" width="${2 * half}" y="24" height="${bottom - 24}" ` +
        `fill="var(--mark)"/>`;
    const upper = [band(180), above.behind], lower = [band(158), below.behind];
    for (const [field, mark, colour] of [["initial", "circle", 0], ["personalized", "square", 1]]) {
        const points = along.map((one, i) => [above.X(i), above.Y(one[field])]);
        upper.push(line(points, `stroke="var(--c${colour})"`),
            ...points.map(([px, py]) => marks[mark](px, py, 4, `fill="var(--c${colour})"`)));
    }
    lower.push(`<path class="axis" d="M34 ${below.Y(0)}H${width - 8}"/>`,
        line(along.map((one, i) => [below.X(i), below.Y(one.gain)]), `stroke="var(--ink)" style="stroke-width:1.2"`));
    along.forEach((one, i) => lower.push(
        line([[below.X(i), below.Y(one.low)], [below.X(i), below.Y(one.high)]],
            `stroke="var(--ink)" style="stroke-width:3"`),
        marks.diamond(below.X(i), below.Y(one.gain), 5, `fill="var(--ink)"`)));
    return `<div>` + picture(width, 190, `accuracy by ${KNOBS[knob]}`, upper.join("")) +
        picture(width, 200, `gain by ${KNOBS[knob]}`, lower.join("")) + `</div>`;
}

// --- who has what ---
page.panel("partition", (state, place) => {
    const artificial = given.ofArtificial[given.alphas.indexOf(state.alpha)];
    if (!place.firstChild) place.innerHTML = `<div class="pair">` + ["", ""].map(() =>
        `<figure><figcaption></figcaption><canvas role="img"></canvas></figure>`).join("") +
        `</div><p class="quiet" style="margin:.3rem 0 0">A row for each label, from ${escaped(given.labels[0])} to ` +
        `${escaped(given.labels.at(-1))}; a column for each of ${given.ofWriters.length} clients, by their most ` +
        `frequent label. The stronger the colour, the larger the label's share of the client's examples; the ` +
        `strongest stands for ${100 * DARKEST} % and more.</p>`;
    const titles = [`synthetic writers: who wrote what`, `the same characters, divided: α = ${state.alpha}`];
    place.querySelectorAll("figure").forEach((figure, i) => {
        figure.querySelector("figcaption").textContent = titles[i];
        const canvas = figure.querySelector("canvas");
        canvas.setAttribute("aria-label", titles[i]);
        shade(canvas, widthOf(figure), [given.ofWriters, artificial][i]);
    });
    return [["A <span class=\"synthetic\">synthetic</span> writer", given.ofWriters],
        ["an artificial client", artificial]].map(([name, counts]) => {
        const some = counts.filter(row => row.some(Boolean));
        const labels = median(some.map(row => row.filter(Boolean).length));
        const guess = page.mean(some.map(row => Math.max(...row) / row.reduce((sum, one) => sum + one)));
        return `${name} has <b>${fixed(labels, 0)}</b> of ${given.labels.length} labels (median); always guessing ` +
            `its most frequent one is right for <b>${fixed(100 * guess, 0)} %</b> of its examples`;
    }).join("; ") + ".";
});

function median(values) {
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length / 2;
    return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}

function shade(canvas, width, counts) {
    const ratio = window.devicePixelRatio || 1, height = Math.round(Math.min(1.15 * width, 430));
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.cssText = `width:${width}px;height:${height}px;background:var(--card);border-radius:6px`;
    const context = canvas.getContext("2d"), labels = given.labels.length;
    context.fillStyle = getComputedStyle(canvas).getPropertyValue("--c0");
    const gutter = 16 * ratio, w = (canvas.width - gutter) / counts.length, h = canvas.height / labels;
    counts.forEach((row, client) => {
        const total = row.reduce((sum, one) => sum + one);
        row.forEach((count, label) => {
            if (!count) return;
            context.globalAlpha = Math.min(count / total / DARKEST, 1) ** 0.5;
            const [x, y] = [Math.floor(gutter + client * w), Math.floor(label * h)];
            context.fillRect(x, y, Math.floor(gutter + (client + 1) * w) - x, Math.floor((label + 1) * h) - y);
        });
    });
    context.globalAlpha = 1;
    context.fillStyle = getComputedStyle(canvas).color;
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    for (let label = 0; label < labels; label += 3) context.fillText(given.labels[label], 3 * ratio, (label + 0.5) * h);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("hashchange")));
