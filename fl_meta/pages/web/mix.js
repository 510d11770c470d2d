// The presets and the reader's mix on the left, the mix by round on the right.
const { widthOf, fixed, signed, escaped, line, marks, axes, picture } = page;
const OWN = "your mix";
const SLICE = 40;  // milliseconds of work between two pictures
const model = mixModel(page.data);
const runs = new Map();
// What was drawn last stays, faint, until there is something new.
const drawn = { ends: {}, course: [] };
let moves = 0;

// The same settings again take no time.
function runOf(mix, clientRate, serverRate) {
    const key = [...mix, clientRate, serverRate].join(" ");
    if (!runs.has(key)) {
        if (runs.size > 60) runs.clear();
        runs.set(key, model.run(mix, clientRate, serverRate));
    }
    return runs.get(key);
}

const panel = page.panel("mix", (state, place) => {
    const mix = [1, 2, 3, 4, 5].map(j => state[`g_${j}`]);
    const named = Object.entries({ ...page.data.presets, [OWN]: mix })
        .map(([name, weights]) => [name, runOf(weights, state.client_rate, state.server_rate)]);
    const own = named[named.length - 1][1];
    const every = Math.max(Math.floor(state.rounds / 8), 1);
    const shown = Array.from({ length: state.rounds + 1 }, (_, round) => round)
        .filter(round => round % every === 0 || round === state.rounds);
    // First the ends, of the reader's mix and of the presets, then the course in between.
    const work = [...named.toReversed().map(([, run]) => [run, state.rounds]), ...shown.map(round => [own, round])];
    const move = ++moves;
    const go = () => {
        if (move !== moves) return;  // a control has moved since
        const begin = performance.now();
        while (work.length && performance.now() - begin < SLICE)
            if (work[0][0].advance(work[0][1])) work.shift();
        draw(place, state.rounds, named, shown.filter(round => own.at(round)).map(round => [round, ...own.at(round)]));
        place.setAttribute("aria-busy", String(work.length > 0));
        if (work.length) setTimeout(go);
        else panel.say(words(mix));
    };
    // The first time, the panel must be there before it says anything.
    if (move === 1) setTimeout(go);
    else go();
    return null;
});

function words(mix) {
    const terms = mix.map((weight, i) =>
        weight ? `${weight < 0 ? "−" : "+"} ${Math.abs(weight)} g<sub>${i + 1}</sub>` : "").filter(Boolean);
    const mixed = terms.join(" ").replace(/^\+ /, "") || "0";
    const { rounds, client_rate, server_rate } = panel.state;
    const [before, after] = runOf(mix, client_rate, server_rate).at(rounds);
    return `<span class="synthetic">${escaped(page.data.label)}</span>: the server steps against ${mixed}. After ` +
        `${rounds} round${rounds > 1 ? "s" : ""} your mix has <b>${fixed(before)} %</b> initial and ` +
        `<b>${fixed(after)} %</b> personalized accuracy. The held-out writers have ${model.images} test images in ` +
        `all: differences of a point or two are noise.`;
}

function draw(place, rounds, named, course) {
    if (!place.firstChild) place.innerHTML =
        `<div class="pair"><figure><figcaption></figcaption><div></div></figure>` +
        `<figure><figcaption>${OWN}: accuracy, %</figcaption><div></div></figure></div>`;
    const [left, right] = place.querySelectorAll("figure");
    left.querySelector("figcaption").textContent =
        `after ${rounds} round${rounds > 1 ? "s" : ""}, ${model.clients} held-out writers`;
    left.querySelector("div").innerHTML = drawEnds(widthOf(left), rounds, named);
    right.querySelector("div").innerHTML = drawCourse(widthOf(right), course);
}

function drawEnds(width, rounds, named) {
    const height = 360, left = 78;
    const { X, Y, behind } = axes({ width, height, x: [0, 100], y: [named.length - 0.4, -0.7], left,
        xTicks: [0, 25, 50, 75, 100], xName: "accuracy, %: ○ initial → ■ personalized" });
    const parts = [behind];
    named.forEach(([name, run], row) => {
        const own = name === OWN, ends = run.at(rounds);
        const colour = own ? "var(--c1)" : "var(--quiet)", y = Y(row);
        parts.push(`<text x="0" y="${y + 4.5}" ${own ? 'class="strong"' : ""}>${escaped(name)}</text>`);
        const shown = drawn.ends[name] = ends ?? drawn.ends[name];
        if (!shown) return;
        const [from, to] = shown.map(X);
        parts.push(`<g${ends ? "" : ' opacity=".35"'}>`, line([[from, y], [to, y]], `stroke="${colour}" style="stroke-width:3"`),
            marks.circle(from, y, 5.5, `fill="var(--paper)" stroke="${colour}" stroke-width="2.5"`),
            marks.square(to, y, 6, `fill="${colour}"`),
            `<text x="${left}" y="${y + 25}">${fixed(shown[0])} → ${fixed(shown[1])}  ` +
            `(${signed(shown[1] - shown[0])})</text></g>`);
    });
    return picture(width, height, "initial and personalized accuracy of the presets and of your mix", parts.join(""));
}

function drawCourse(width, course) {
    const height = 360, most = page.data.mostRounds;
    const { X, Y, behind } = axes({ width, height, x: [-1, most + 1], y: [0, 100], left: 34,
        xTicks: [0, 10, 20, 30, 40], yTicks: [0, 25, 50, 75, 100], xName: "round" });
    const fresh = course.length > 1;
    if (fresh) drawn.course = course;
    const parts = [behind, `<g${fresh ? "" : ' opacity=".35"'}>`];
    ["initial", "personalized"].forEach((name, i) => {
        const colour = `var(--c${i})`, mark = marks[["circle", "square"][i]];
        const points = drawn.course.map(row => [X(row[0]), Y(row[1 + i])]);
        if (points.length) parts.push(line(points, `stroke="${colour}"`));
        parts.push(...points.map(([x, y]) => mark(x, y, 4, `fill="${colour}"`)),
            mark(50, 24 + 20 * i, 4.5, `fill="${colour}"`), `<text x="62" y="${28.5 + 20 * i}">${name}</text>`);
    });
    parts.push("</g>");
    return picture(width, height, "accuracy of your mix by round, initial and personalized", parts.join(""));
}
