// The training of fl_meta.laboratories.mixing, round by round as there; a test compares the two.
const mixModel = given => {
    const { batchSize, innerGradients, classes, nothing } = given;
    const part = ({ x, y, counts }) => {
        const pixels = page.unpacked(x, Float32Array), labels = page.unpacked(y, Uint8Array);
        const features = pixels.length / labels.length + 1;
        const inputs = new Float64Array(labels.length * features);
        labels.forEach((_, row) => {
            inputs.set(pixels.subarray(row * (features - 1), (row + 1) * (features - 1)), row * features);
            inputs[(row + 1) * features - 1] = 1;
        });
        const begins = counts.map((_, client) => counts.slice(0, client).reduce((sum, count) => sum + count, 0));
        return { inputs, labels, counts, begins, features };
    };
    const train = part(given.train), heldOut = part(given.heldOut), tests = part(given.tests);
    const { features } = train, size = classes * features;
    const rounds = page.unpacked(given.rounds, Uint8Array), adaptation = page.unpacked(given.adaptation, Uint8Array);
    const perRound = innerGradients * train.counts.length * batchSize;

    // Parameters have a row of features for each class. Five rows at a time, a processor does several
    // multiplications at once; there are fifteen classes, and ten images in a batch.
    const scores = new Float64Array(classes);
    function score(inputs, offset, params) {
        for (let c = 0; c < classes; c += 5) {
            const p = c * features, q = p + features, r = q + features, s = r + features, t = s + features;
            let u = 0, v = 0, w = 0, y = 0, z = 0;
            for (let f = 0; f < features; f++) {
                const x = inputs[offset + f];
                u += x * params[p + f];
                v += x * params[q + f];
                w += x * params[r + f];
                y += x * params[s + f];
                z += x * params[t + f];
            }
            scores[c] = u; scores[c + 1] = v; scores[c + 2] = w; scores[c + 3] = y; scores[c + 4] = z;
        }
    }

    // The gradient of a client's mean loss on the batch at `positions[from …]`, into `gradient`; false if
    // there is no such batch.
    const batch = new Float64Array(batchSize * features), errors = new Float64Array(batchSize * classes);
    function batchGradient(data, client, positions, from, params, gradient) {
        let count = 0;
        while (count < batchSize && positions[from + count] !== nothing) count++;
        if (!count) return false;
        for (let row = 0; row < count; row++) {
            const example = data.begins[client] + positions[from + row], offset = example * features;
            score(data.inputs, offset, params);
            for (let f = 0; f < features; f++) batch[row * features + f] = data.inputs[offset + f];
            let most = -Infinity, sum = 0;
            for (let c = 0; c < classes; c++) most = Math.max(most, scores[c]);
            for (let c = 0; c < classes; c++) sum += scores[c] = Math.exp(scores[c] - most);
            for (let c = 0; c < classes; c++)
                errors[row * classes + c] = (scores[c] / sum - (data.labels[example] === c ? 1 : 0)) / count;
        }
        errors.fill(0, count * classes);  // of the images that a smaller batch lacks
        for (let c = 0; c < classes; c++)
            for (let row = 0; row < count; row += 5) {
                const e = row * classes + c, k = errors[e], l = errors[e + classes], m = errors[e + 2 * classes];
                const n = errors[e + 3 * classes], o = errors[e + 4 * classes];
                const p = row * features, q = p + features, r = q + features, s = r + features, t = s + features;
                for (let f = 0, to = c * features; f < features; f++, to++)
                    gradient[to] = (row ? gradient[to] : 0) + k * batch[p + f] + l * batch[q + f] +
                        m * batch[r + f] + n * batch[s + f] + o * batch[t + f];
            }
        return true;
    }

    const gradient = new Float64Array(size), local = new Float64Array(size);
    function walk(gradient, rate, params) {
        for (let i = 0; i < size; i++) params[i] -= rate * gradient[i];
    }

    // The pseudo-gradient of a mix in a round: β times the mean over clients of Σ mix_j g_j.
    function mixedGradient(params, number, mix, rate) {
        const sent = new Float64Array(size), clients = train.counts.length;
        const last = mix.findLastIndex(weight => weight !== 0);
        for (let client = 0; client < clients; client++) {
            local.set(params);
            for (let j = 0; j <= last; j++) {
                const from = number * perRound + (j * clients + client) * batchSize;
                batchGradient(train, client, rounds, from, local, gradient);
                if (mix[j]) walk(gradient, -mix[j] * rate / clients, sent);
                if (j < last) walk(gradient, rate, local);
            }
        }
        return sent;
    }

    function accuracyOf(client, params) {
        let right = 0;
        for (let row = tests.begins[client]; row < tests.begins[client] + tests.counts[client]; row++) {
            score(tests.inputs, row * features, params);
            let best = 0;
            for (let c = 1; c < classes; c++) if (scores[c] > scores[best]) best = c;
            right += best === tests.labels[row];
        }
        return 100 * right / tests.counts[client];
    }

    // Mean accuracies of the held-out clients, before and after one epoch of adaptation.
    function evaluate(params, rate) {
        const clients = heldOut.counts.length, sums = [0, 0];
        for (let client = 0; client < clients; client++) {
            sums[0] += accuracyOf(client, params);
            local.set(params);
            for (let from = client * batchSize; from < adaptation.length; from += clients * batchSize)
                if (batchGradient(heldOut, client, adaptation, from, local, gradient)) walk(gradient, rate, local);
            sums[1] += accuracyOf(client, local);
        }
        return sums.map(sum => sum / clients);
    }

    // A run keeps its parameters and accuracies by round, and computes those that are asked for first.
    function run(mix, clientRate, serverRate) {
        const params = [new Float64Array(size)], evaluations = new Map();
        return {
            params,
            // One step of work towards the accuracies after a round; true when they are there.
            advance(round) {
                if (evaluations.has(round)) return true;
                if (params.length > round) evaluations.set(round, evaluate(params[round], clientRate));
                else {
                    const next = Float64Array.from(params[params.length - 1]);
                    walk(mixedGradient(next, params.length - 1, mix, clientRate), serverRate, next);
                    params.push(next);
                }
                return false;
            },
            at: round => evaluations.get(round),
        };
    }

    return { run, features, clients: tests.counts.length, images: tests.labels.length };
};
