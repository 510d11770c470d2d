// The plane on the left, the clients' mean loss over the rounds on the right.
const CONTOUR = 0.05, HALF_WIDTH = 3.7, HALF_HEIGHT = 2.9;  // of a client's loss on the rim, of the plane
const MOST_ROUNDS = Number(document.getElementById("rounds").max);
const { widthOf, fixed, line, marks, axes, picture, escaped } = page;
const subscripts = text => escaped(text).replace(/_(\w)|_\{(.*?)\}/g, (_, one, more) => `<sub>${one ?? more}</sub>`);

page.panel("plane", (state, place) => {
    const given = page.data;
    document.getElementById("steps").disabled = state.algorithm === "FedSGD";
    const row = given.algorithms[state.algorithm][state.steps - 1];
    const plane = planeModel.quadratics(given, state.heterogeneity);
    const { path, local } = planeModel.train(given, plane, row, state.client_rate,
        given.servers[state.server], state.server_rate, state.rounds);
    const initial = path.map(at => planeModel.meanLoss(plane, plane.clients.map(() => at)));
    const after = path.map(
        at => planeModel.meanLoss(plane, planeModel.adapted(plane, at, state.client_rate)));
    const best = planeModel.smallestLosses(plane, state.client_rate);
    const title = `${row.name}, server ${state.server}: ${state.rounds} round${state.rounds > 1 ? "s" : ""}`;

    if (!place.firstChild) place.innerHTML =
        `<div class="pair"><figure class="wide"><figcaption></figcaption><div></div>${key()}</figure>` +
        `<figure><figcaption>loss, mean of the clients</figcaption><div></div></figure></div>`;
    const [left, right] = place.querySelectorAll("figure");
    left.querySelector("figcaption").textContent = title;
    left.querySelector("div").innerHTML = drawPlane(widthOf(left), title, plane, path, local, state);
    right.querySelector("div").innerHTML = drawLosses(widthOf(right), initial, after, best);

    const end = path.length - 1;
    const counts = row.byExamples ? "by its number of examples" : "as much as any other";
    const outside = path.some(([x, y]) => Math.abs(x) > HALF_WIDTH || Math.abs(y) > HALF_HEIGHT);
    return `<b>${row.name}</b>: a client sends ${subscripts(row.sends)}, and counts ${counts}. The mean loss is ` +
        `<b>${fixed(initial[end], 2)}</b> at the global model (best possible: ${fixed(best[0], 2)}), and ` +
        `<b>${fixed(after[end], 2)}</b> after one step of each client (best possible: ${fixed(best[1], 2)}).` +
        (outside ? " <b>The server's path leaves the picture: lower the rates.</b>" : "");
});

function drawPlane(width, name, plane, path, local, state) {
    const height = Math.round(width * HALF_HEIGHT / HALF_WIDTH), scale = width / (2 * HALF_WIDTH);
    const P = ([x, y]) => [width / 2 + scale * x, height / 2 - scale * y];
    const colours = plane.clients.map((_, i) => `var(--c${i})`), parts = [];
    plane.clients.forEach(({ optimum, along, angle }, i) => {
        const [x, y] = P(optimum), [rx, ry] = along.map(value => scale * Math.sqrt(2 * CONTOUR / value));
        parts.push(`<ellipse cx="${x}" cy="${y}" rx="${rx}" ry="${ry}" fill="${colours[i]}" opacity=".2" ` +
            `transform="rotate(${-angle * 180 / Math.PI} ${x} ${y})"/>`);
    });
    const end = path[path.length - 1];
    const homes = planeModel.adapted(plane, end, state.client_rate);
    local.forEach((places, i) => parts.push(line(places.map(P), `stroke="${colours[i]}" stroke-width="1.5"`),
        ...places.slice(1).map(at => marks.circle(...P(at), 2.2, `fill="${colours[i]}"`))));
    plane.clients.forEach(({ optimum }, i) => {
        const [x, y] = P(optimum);
        parts.push(marks.circle(x, y, 10, `fill="${colours[i]}"`),
            `<text x="${x}" y="${y + 4.5}" text-anchor="middle" class="strong" style="fill:var(--paper)">${i + 1}</text>`);
    });
    homes.forEach((home, i) => parts.push(
        line([P(end), P(home)], `stroke="${colours[i]}" style="stroke-width:3;stroke-dasharray:2 4"`),
        marks.triangle(...P(home), 6.5, `fill="${colours[i]}" stroke="var(--ink)"`)));
    parts.push(line(path.map(P), `stroke="var(--ink)" style="stroke-width:1.3"`),
        ...path.slice(1).map(at => marks.circle(...P(at), 2.2, `fill="var(--ink)"`)),
        marks.square(...P(path[0]), 5, `fill="var(--ink)"`),
        marks.star(...P(end), 11, `fill="var(--ink)" stroke="var(--paper)"`));
    return picture(width, height, name, `<clipPath id="edge"><rect width="${width}" height="${height}" rx="6"/>` +
        `</clipPath><rect width="${width}" height="${height}" rx="6" fill="var(--card)"/>` +
        `<g clip-path="url(#edge)">${parts.join("")}</g>`);
}

function drawLosses(width, initial, after, best) {
    const height = 340;
    const { X, Y, behind } = axes({ width, height, x: [-1, MOST_ROUNDS + 1], y: [0, 3.6], left: 26,
        xTicks: [0, 20, 40, 60], yTicks: [0, 1, 2, 3], xName: "round" });
    const parts = [behind];
    [[initial, "circle", "initial", 0], [after, "square", "after one step", 1]].forEach(([values, mark, name, i]) => {
        const colour = `var(--c${i})`, every = Math.max(Math.floor(values.length / 10), 1);
        const clipped = values.map((value, round) => [X(round), Math.max(Y(value), -5)]);
        parts.push(line([[X(-1), Y(best[i])], [X(MOST_ROUNDS + 1), Y(best[i])]],
            `stroke="${colour}" style="stroke-dasharray:2 4"`),
        line(clipped, `stroke="${colour}"`),
        ...clipped.filter((_, round) => round % every === 0).map(
            ([x, y]) => marks[mark](x, y, 3.6, `fill="${colour}"`)));
        const text = `${name}: ${fixed(values[values.length - 1], 2)} (best ${fixed(best[i], 2)})`;
        parts.push(`<text x="${width - 12}" y="${26 + 22 * i}" text-anchor="end" class="strong">` +
            `<tspan style="fill:${colour}">${"●■"[i]}</tspan> ${text}</text>`);
    });
    const name = "mean loss of the clients by round, initial and after one step; dotted: best possible";
    return picture(width, height, name, parts.join("")) + `<p class="quiet" style="margin:0">dotted: the best that any place reaches</p>`;
}

function key() {
    const grey = "var(--quiet)";
    const sign = content => `<svg width="30" height="16" viewBox="0 0 30 16" aria-hidden="true">${content}</svg>`;
    return `<ul class="key"><li>${sign(marks.circle(15, 8, 7, `fill="${grey}"`))}a client's optimum</li>` +
        `<li>${sign(line([[2, 8], [28, 8]], `stroke="${grey}"`) + marks.circle(15, 8, 3, `fill="${grey}"`))}local steps, last round</li>` +
        `<li>${sign(marks.square(5, 8, 4, `fill="var(--ink)"`) + line([[5, 8], [22, 8]], `stroke="var(--ink)"`) + marks.star(23, 8, 7, `fill="var(--ink)"`))}server</li>` +
        `<li>${sign(line([[2, 12], [22, 6]], `stroke="${grey}" style="stroke-width:3;stroke-dasharray:2 4"`) + marks.triangle(23, 6, 5, `fill="${grey}"`))}one adaptation step</li></ul>`;
}
