// Above: the forest of all tests and the replicates of the chosen one. Below: the second stage taken apart.
const { widthOf, fixed, signed, escaped, line, marks, axes, picture, ticks } = page;
const given = page.data, SHAPES = ["circle", "square", "diamond", "triangle", "star"];
const datasets = [...new Set(given.tests.map(test => test.dataset))];
const KINDS = { reproduced: "for", helps: "for", contradicted: "against", harms: "against", "no difference": "equal" };
const kindOf = verdict => KINDS[verdict.split(",")[0]] ?? "open";
const badge = verdict =>
    `<span class="verdict ${kindOf(verdict)}"><span aria-hidden="true">${given.marks[verdict]} </span>${verdict}</span>`;
const named = dataset => escaped(dataset).replace(/\(?synthetic\)?/, one => `<span class="synthetic">${one}</span>`);
const keyOf = test => [test.claim, test.dataset, test.regime].join("|");

// As fl_meta.evidence.crossed_rules decides, with another margin.
function verdictOf(test, margin) {
    if (test.premise !== null && test.premise <= 0) return "premise not met";
    if (test.p < given.level && test.p_holm < given.level)
        return (test.effect > 0 ? "reproduced" : "contradicted") +
            (Math.abs(test.effect) < margin ? ", but small" : "");
    const [low, high] = test.equivalence;
    return -margin < low && high < margin ? "no difference" : "undecided";
}

let chosen = keyOf(given.tests[0]);
const forest = page.panel("forest", (state, place) => {
    const tests = given.tests.filter(test =>
        (state.claim === "all" || test.claim === state.claim) &&
        (state.regime === "both" || test.regime === state.regime) &&
        (state.dataset === "all" || test.dataset === state.dataset));
    if (!tests.length) {
        place.innerHTML = "";
        return "No such test is recorded: choose another claim, regime or data set.";
    }
    if (!tests.some(test => keyOf(test) === chosen)) chosen = keyOf(tests[0]);
    const spread = tests.flatMap(test => [test.effect, ...[test.low, test.high].map(
        bound => Math.max(-4.5, Math.min(4.5, bound))), -test.margin * state.margin, test.margin * state.margin]);
    const span = [Math.min(...spread) - 0.3, Math.max(...spread) + 0.3];
    const width = widthOf(place), strip = innerWidth < 660 ? width : Math.round(0.4 * width);
    const focused = place.contains(document.activeElement);
    place.innerHTML = `<table class="forest"><colgroup><col class="name"><col><col class="of"></colgroup>` +
        Object.keys(given.claims).map(claim => {
            const rows = tests.filter(test => test.claim === claim);
            return rows.length && `<tbody><tr><th colspan="3" scope="rowgroup"><b>${claim}</b> · ` +
                `${escaped(given.claims[claim].statement)}</th></tr>` +
                rows.map(test => row(test, state, strip, span, width)).join("") + `</tbody>`;
        }).filter(Boolean).join("") + scale(strip, span);
    if (focused) place.querySelector("input:checked").focus();
    return details(tests.find(test => keyOf(test) === chosen), state);
});
forest.section.addEventListener("reset", () => { chosen = keyOf(given.tests[0]); }, true);
forest.picture.addEventListener("change", event => {
    chosen = event.target.value;
    forest.redraw();
});

function row(test, state, width, span, whole) {
    const margin = test.margin * state.margin, height = 26, middle = height / 2;
    const X = value => 8 + (value - span[0]) / (span[1] - span[0]) * (width - 16);
    const inside = value => Math.max(span[0], Math.min(span[1], value));
    const verdict = verdictOf(test, margin), kind = kindOf(verdict), order = datasets.indexOf(test.dataset);
    const colour = `var(--c${order % 5})`, [low, high] = [test.low, test.high].map(inside);
    const arrows = (test.low < low ? `<path d="M${X(low)} ${middle}l7 -5v10z" fill="${colour}"/>` : "") +
        (test.high > high ? `<path d="M${X(high)} ${middle}l-7 -5v10z" fill="${colour}"/>` : "");
    const drawing = `<rect x="${X(inside(-margin))}" width="${X(inside(margin)) - X(inside(-margin))}" height="${height}" ` +
        `fill="var(--line)" opacity=".75"/><path class="axis" d="M${X(0)} 0V${height}"/>` +
        line([[X(low), middle], [X(high), middle]], `stroke="${colour}"`) + arrows +
        marks[SHAPES[order % 5]](X(test.effect), middle, 5,
            `fill="${kind === "open" ? "var(--paper)" : colour}" stroke="${colour}" stroke-width="2"`);
    const key = keyOf(test), is = key === chosen;
    const more = is ? `<tr class="more"><td colspan="3">${replicates(test, state, whole - 14)}</td></tr>` : "";
    const name = `${test.claim}, ${test.dataset}, ${test.regime}: ${signed(test.effect, 2)} points, ${verdict}`;
    return `<tr class="${is ? "chosen" : ""}"><td><label><input type="radio" name="test" value="${escaped(key)}" ` +
        `aria-label="${escaped(name)}"${is ? " checked" : ""}><span>${named(test.dataset)}, ${test.regime}</span></label></td>` +
        `<td class="strip">${picture(width, height, name, drawing)}</td><td>${badge(verdict)}</td></tr>${more}`;
}

function scale(width, span) {
    const X = value => 8 + (value - span[0]) / (span[1] - span[0]) * (width - 16);
    const numbers = ticks(...span, 8).map(tick => `<path class="axis" d="M${X(tick)} 0v5"/><text class="quiet" ` +
        `x="${X(tick)}" y="18" text-anchor="middle">${signed(tick, Number.isInteger(tick) ? 0 : 1)}</text>`);
    const axis = `<path class="axis" d="M8 0H${width - 8}"/>${numbers.join("")}` +
        `<text class="quiet" x="${width / 2}" y="35" text-anchor="middle">← against the paper · supports it →</text>`;
    return `<tbody><tr><td></td><td class="strip">${picture(width, 40, "points of accuracy", axis)}</td><td></td></tr>` +
        `</tbody></table><p class="quiet" style="margin:.2rem 0 0">Points of accuracy on held-out clients with 95 % ` +
        `intervals (arrow: goes on). Grey: too small to matter. Hollow: undecided, or premise not met.</p>`;
}

// The chosen test in words.
function details(test, state) {
    const most = test.replicates, number = Math.min(state.replicates, most), margin = test.margin * state.margin;
    const verdict = verdictOf(test, margin), [effect, low, high] = test.fewer[number];
    return `<b>${test.claim}</b>, ${escaped(given.claims[test.claim].statement)}. On ${named(test.dataset)}, ${test.regime} ` +
        `regime: ${badge(verdict)}, an effect of <b>${signed(test.effect, 2)}</b> points [${signed(test.low, 2)}, ` +
        `${signed(test.high, 2)}] over ${test.clients} held-out clients and ${most} replicates; p = ` +
        `${test.p_holm < 0.001 ? "below 0.001" : fixed(test.p_holm, 3)} after Holm's correction, margin ${margin} points` +
        (state.margin === 1 ? "." : `, <b>not the one that was fixed beforehand (${test.margin})</b>.`) +
        (test.premise === null ? "" : ` The rival's initial accuracy is ${signed(test.premise, 2)} points above Reptile's.`) +
        (test.ceiling.length ? ` Ended by the ceiling while still improving: ${escaped(test.ceiling.join(", "))}.` : "") +
        (number < most ? ` With the first ${number} replicates alone: ${signed(effect, 2)} [${signed(low, 2)}, ${signed(high, 2)}].` : "");
}

// Its replicates, those that count filled, and their mean.
function replicates(test, state, width) {
    const number = Math.min(state.replicates, test.replicates), margin = test.margin * state.margin;
    const [effect, low, high] = test.fewer[number];
    const folds = test.folds.length, height = 34 * (folds + 1) + 52;
    const all = [...test.folds.flat(), low, high, -margin, margin, 0];
    const x = [Math.min(...all), Math.max(...all)], room = 0.04 * (x[1] - x[0]);
    const { X, Y, behind } = axes({ width, height, x: [x[0] - room, x[1] + room], y: [folds + 0.5, -0.5], left: 76,
        xTicks: ticks(...x, width < 500 ? 5 : 9), xName: width < 500 ? "points, right of 0 for the paper" : "effect in points: ← against the paper · supports it →",
        names: Object.fromEntries(ticks(...x, width < 500 ? 5 : 9).map(tick => [tick, signed(tick, Number.isInteger(tick) ? 0 : 1)])) });
    const parts = [`<rect x="${X(-margin)}" width="${X(margin) - X(-margin)}" y="10" height="${height - 52}" ` +
        `fill="var(--line)" opacity=".6"/>`, behind, `<path class="axis" d="M${X(0)} 10V${height - 42}"/>`];
    test.folds.forEach((runs, fold) => {
        parts.push(`<text x="0" y="${Y(fold) + 4}">fold ${fold + 1}</text>`);
        runs.forEach((run, i) => parts.push(marks.circle(X(run), Y(fold), 4.5,
            i < number ? `fill="var(--c0)" opacity=".75"` : `fill="none" stroke="var(--quiet)" stroke-dasharray="2 2"`)
            .replace("/>", `><title>replicate ${i + 1}: ${signed(run, 2)}</title></circle>`)));
    });
    const colour = "var(--ink)";
    parts.push(`<text x="0" y="${Y(folds) + 4}" class="strong">all</text>`,
        line([[X(low), Y(folds)], [X(high), Y(folds)]], `stroke="${colour}" style="stroke-width:3"`),
        marks.diamond(X(effect), Y(folds), 6.5, `fill="${colour}"`));
    return picture(width, height, `effects of ${test.replicates} replicates in ${folds} folds, and their mean`, parts.join(""));
}

// --- the second stage ---
page.panel("second-stage", (state, place) => {
    const { arms, causes, servers, updates, contrasts } = given.second;
    const here = rows => rows.filter(row => row.dataset === state.place_dataset && row.regime === state.place_regime &&
        row.measure === state.measure);
    const ours = here(arms), found = here(causes);
    if (!ours.length) {
        place.innerHTML = "";
        return `${named(state.place_dataset)} is not recorded in the ${state.place_regime} regime.`;
    }
    const others = ours.filter(arm => arm.low !== arm.high || arm.effect);
    const margin = found[0].margin, width = widthOf(place), height = 300;
    const bounds = [...others.flatMap(arm => [arm.low, arm.high]), -margin, margin];
    const y = [Math.max(Math.min(...bounds), Math.min(...others.map(arm => arm.effect), -margin) - 4),
        Math.min(Math.max(...bounds), Math.max(...others.map(arm => arm.effect), margin) + 4)];
    const { X, Y, behind } = axes({ width, height, x: [-0.4, servers.length - 0.6], y: [y[0] - 0.2, y[1] + 0.2], left: 40,
        top: 26, xTicks: servers.map((_, i) => i), names: { ...servers }, yTicks: ticks(...y), xName: "the server of the second stage",
        yName: `${state.measure} accuracy, points above FedAvg continued as before` });
    const parts = [`<rect x="40" width="${width - 52}" y="${Y(margin)}" height="${Y(-margin) - Y(margin)}" ` +
        `fill="var(--line)" opacity=".6"/>`, behind, `<path class="axis" d="M40 ${Y(0)}H${width - 12}"/>`];
    Object.entries(updates).forEach(([update, names], i) => {
        const colour = `var(--c${i})`, mark = marks[SHAPES[i]];
        const points = names.map(name => ours.find(arm => arm.arm === name));
        const at = j => X(j + 0.1 * (i - 0.5));
        parts.push(line(points.map((arm, j) => [at(j), Y(arm.effect)]), `stroke="${colour}"`));
        points.forEach((arm, j) => parts.push(
            line([arm.low, arm.high].map(bound => [at(j), Y(Math.max(y[0], Math.min(y[1], bound)))]), `stroke="${colour}"`),
            mark(at(j), Y(arm.effect), 5, `fill="${colour}"`)));
    });
    const keys = Object.keys(updates).map((update, i) => `<li><svg width="16" height="14" viewBox="0 0 16 14" aria-hidden="true">` +
        `${marks[SHAPES[i]](8, 7, 4.5, `fill="var(--c${i})"`)}</svg>${update}'s update</li>`).join("");
    place.innerHTML = picture(width, height, "the arms of the second stage above FedAvg continued as before", parts.join("")) +
        `<ul class="key">${keys}<li>grey: too small to matter</li></ul><ul>` + contrasts.map(contrast => {
        const { verdict, effect, low, high } = found.find(row => row.contrast === contrast);
        return `<li>${escaped(contrast)}: ${badge(verdict)} <span class="numbers">${signed(effect, 2)} ` +
            `[${signed(low, 2)}, ${signed(high, 2)}]</span></li>`;
    }).join("") + "</ul>";
    const said = contrasts.map(contrast => `${contrast}: ${found.find(row => row.contrast === contrast).verdict}`);
    return `On ${named(state.place_dataset)} in the ${state.place_regime} regime, ${state.measure} accuracy. ${said.join("; ")}.`;
});
