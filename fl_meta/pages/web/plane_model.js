// The plane of fl_meta.laboratories.plane, step by step as there; a test compares the two.
const planeModel = (() => {
    const add = (a, b, factor = 1) => [a[0] + factor * b[0], a[1] + factor * b[1]];
    // The product of a symmetric matrix [a, b, d] and a vector.
    const times = ([a, b, d], [x, y]) => [a * x + b * y, b * x + d * y];

    function quadratics(given, heterogeneity) {
        const clients = given.optima.map((optimum, i) => {
            const angle = heterogeneity * given.angles[i];
            const [c, s] = [Math.cos(angle), Math.sin(angle)];
            const [u, v] = given.commonCurvatures.map(
                (common, axis) => common ** (1 - heterogeneity) * given.curvatures[i][axis] ** heterogeneity
            );
            const curvature = [u * c * c + v * s * s, (u - v) * c * s, u * s * s + v * c * c];
            return { optimum: optimum.map(value => heterogeneity * value), curvature, along: [u, v], angle };
        });
        const gradient = (client, at) => times(client.curvature, add(at, client.optimum, -1));
        const loss = (client, at) => {
            const away = add(at, client.optimum, -1), bent = times(client.curvature, away);
            return 0.5 * (away[0] * bent[0] + away[1] * bent[1]);
        };
        return { clients, gradient, loss };
    }

    const adapted = (plane, at, rate) => plane.clients.map(one => add(at, plane.gradient(one, at), -rate));
    const meanLoss = (plane, places) =>
        plane.clients.reduce((sum, one, i) => sum + plane.loss(one, places[i]), 0) / places.length;

    // The smallest mean loss that a common place can have, before and after one step of every client.
    function smallestLosses(plane, rate) {
        return [0, rate].map(step => {
            const after = plane.clients.map(({ curvature: [a, b, d], optimum }) => {
                // (I − βH) H (I − βH), whose factors commute
                const [p, q, r] = [1 - step * a, -step * b, 1 - step * d];
                const square = [p * p + q * q, q * (p + r), q * q + r * r];
                const bent = [square[0] * a + square[1] * b, square[0] * b + square[1] * d,
                    square[1] * b + square[2] * d];
                return { curvature: bent, optimum };
            });
            const sum = [0, 0, 0], pull = [0, 0];
            for (const { curvature, optimum } of after) {
                curvature.forEach((value, i) => { sum[i] += value; });
                times(curvature, optimum).forEach((value, i) => { pull[i] += value; });
            }
            const determinant = sum[0] * sum[2] - sum[1] ** 2;
            const best = [(sum[2] * pull[0] - sum[1] * pull[1]) / determinant,
                (sum[0] * pull[1] - sum[1] * pull[0]) / determinant];
            return meanLoss({ ...plane, clients: after }, after.map(() => best));
        });
    }

    // A function from each round's pseudo-gradient to the step to subtract.
    function serverSteps(optimizer, rate) {
        const average = [0, 0], square = [0, 0];
        let count = 0;
        return gradient => {
            count += 1;
            return gradient.map((g, i) => {
                if (!("beta1" in optimizer)) {
                    average[i] = optimizer.momentum * average[i] + g;
                    return rate * average[i];
                }
                average[i] = optimizer.beta1 * average[i] + (1 - optimizer.beta1) * g;
                square[i] = optimizer.beta2 * square[i] + (1 - optimizer.beta2) * g * g;
                const scale = Math.sqrt(square[i] / (1 - optimizer.beta2 ** count)) + optimizer.epsilon;
                return rate * average[i] / (1 - optimizer.beta1 ** count) / scale;
            });
        };
    }

    // What a client sends in a round, and the places on its way.
    function localWork(plane, client, at, row, rate) {
        const places = [at];
        let sent = [0, 0];
        for (let step = 0; step < row.steps; step++) {
            const gradient = plane.gradient(client, places[step]);
            places.push(add(places[step], gradient, -rate));
            sent = row.sendsLast ? gradient : add(sent, gradient);
        }
        if (row.sendsLast) places.pop();  // the last gradient is sent without a step along it
        if (row.secondOrder)
            for (let step = 1; step < places.length; step++) sent = add(sent, times(client.curvature, sent), -rate);
        return { sent, places };
    }

    // The server's path, and the clients' ways in the last round.
    function train(given, plane, row, clientRate, server, serverRate, rounds) {
        const step = serverSteps(server, serverRate);
        const total = row.weights.reduce((sum, weight) => sum + weight);
        const path = [given.start];
        let local;
        for (let round = 0; round < rounds; round++) {
            local = plane.clients.map(client => localWork(plane, client, path[round], row, clientRate));
            const direction = local.reduce((sum, { sent }, i) => add(sum, sent, row.weights[i]), [0, 0])
                .map(value => clientRate * value / total);
            path.push(add(path[round], step(direction), -1));
        }
        return { path, local: local.map(({ places }) => places) };
    }

    return { quadratics, adapted, meanLoss, smallestLosses, train };
})();
