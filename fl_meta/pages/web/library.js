"use strict";
// What the pages share: controls with their values in words and in the address, and parts of SVG pictures.
const page = (() => {
    const data = JSON.parse(document.getElementById("data").textContent);
    const panels = [];

    // --- numbers as text, with a real minus ---
    const fixed = (number, digits = 1) => {
        const text = Math.abs(number).toFixed(digits);
        return number < 0 && /[1-9]/.test(text) ? "−" + text : text;
    };
    const signed = (number, digits = 1) => {
        const text = fixed(number, digits);
        return number > 0 && /[1-9]/.test(text) ? "+" + text : text;
    };
    const escaped = text => String(text).replace(/[&<>"]/g, one => `&#${one.charCodeAt(0)};`);
    const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

    // The values of a typed array that was packed in base64.
    const unpacked = (text, Type) => {
        const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
        return new Type(bytes.buffer);
    };

    // --- controls ---
    class Control {
        constructor(input) {
            this.input = input;
            this.name = input.id;
            this.argument = input.dataset.argument;  // of the notebook's panel
            this.output = document.querySelector(`output[for="${input.id}"]`);
            this.stops = input.dataset.stops ? JSON.parse(input.dataset.stops) : null;
            this.first = this.value;
        }
        get value() {
            const { input } = this;
            if (input.type === "checkbox") return input.checked;
            if (input.tagName === "SELECT") return input.value;
            return this.stops ? this.stops[Number(input.value)] : Number(input.value);
        }
        set value(value) {
            const { input } = this;
            if (input.type === "checkbox") input.checked = value;
            else input.value = this.stops ? this.stops.indexOf(value) : value;
        }
        // As the address has it; what is not among the values changes nothing.
        parse(text) {
            const { input } = this;
            if (input.type === "checkbox") this.value = text === "true";
            else if (input.tagName === "SELECT") {
                if ([...input.options].some(option => option.value === text)) this.value = text;
            } else {
                const number = Number(text);
                if (this.stops ? this.stops.includes(number) : text !== "" && Number.isFinite(number))
                    this.value = number;
            }
        }
        show() {
            if (!this.output) return;
            const text = fixed(this.value, (String(this.value).split(".")[1] ?? "").length);
            this.output.textContent = text;
            if (this.stops || this.value < 0) this.input.setAttribute("aria-valuetext", text);
        }
        get python() {
            const { value } = this;
            if (typeof value === "string") return `'${value.replaceAll("'", "\\'")}'`;
            const step = this.input.dataset.stops ?? this.input.step;
            return Number.isInteger(value) && step.includes(".") ? `${value}.0` : String(value);
        }
    }

    // Connect a panel: `draw(state, picture)` redraws it and returns in HTML what the picture shows, or null
    // if it will call the panel's `say` later.
    function panel(id, draw) {
        const section = document.getElementById(id);
        const [picture, form, words, said] =
            [".picture", "form", ".words", ".said"].map(name => section.querySelector(name));
        let timer = 0;
        const it = {
            section, picture, words,
            controls: [...form.querySelectorAll("input, select")].filter(input => input.id)
                .map(input => new Control(input)),
            get state() { return Object.fromEntries(this.controls.map(one => [one.name, one.value])); },
            set(values) {
                for (const control of this.controls)
                    if (control.name in values) control.value = values[control.name];
                this.redraw();
            },
            // Readers see the words at once; a screen reader hears them when the control rests.
            say(html) {
                words.innerHTML = html;
                clearTimeout(timer);
                timer = setTimeout(() => {
                    if (said.textContent !== words.textContent) said.textContent = words.textContent;
                }, 400);
            },
            redraw() {
                for (const control of this.controls) control.show();
                const html = draw(this.state, picture);
                if (html !== null) this.say(html);
                const code = document.querySelector(`code[data-of="${id}"]`);
                if (code) {
                    const given = this.controls.map(one => `${one.argument}=${one.python}`);
                    code.textContent = section.dataset.code.replace("…", given.join(", "));
                }
            },
        };
        form.addEventListener("submit", event => event.preventDefault());
        form.addEventListener("input", () => { it.redraw(); remember(); });
        form.addEventListener("reset", event => {
            event.preventDefault();
            it.set(Object.fromEntries(it.controls.map(one => [one.name, one.first])));
            remember();
        });
        panels.push(it);
        recall(it);
        let width = picture.clientWidth;
        it.redraw();
        new ResizeObserver(() => {
            if (picture.clientWidth === width) return;
            width = picture.clientWidth;
            it.redraw();
        }).observe(picture);
        return it;
    }

    // --- the address ---
    let pending = 0;
    function remember() {
        clearTimeout(pending);
        pending = setTimeout(() => {
            const changed = panels.flatMap(it => it.controls).filter(one => one.value !== one.first);
            const given = new URLSearchParams(changed.map(one => [one.name, one.value]));
            history.replaceState(null, "", `#${given}`);
        }, 300);
    }
    function recall(it) {
        const given = new URLSearchParams(location.hash.slice(1));
        for (const control of it.controls)
            if (given.has(control.name)) control.parse(given.get(control.name));
    }
    addEventListener("hashchange", () => panels.forEach(it => { recall(it); it.redraw(); }));

    // Buttons in the text that set controls: everything else goes back to its first value.
    document.addEventListener("click", event => {
        const button = event.target.closest("button.set");
        if (!button) return;
        const values = JSON.parse(button.dataset.set);
        const it = panels.find(one => one.controls.some(control => control.name in values));
        it.set({ ...Object.fromEntries(it.controls.map(one => [one.name, one.first])), ...values });
        remember();
        const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
        it.section.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
    });

    // --- pictures ---
    // The width of a place; before a page is laid out it has none, and what is drawn then is drawn again.
    const widthOf = place => Math.max(place.clientWidth, 240);

    function picture(width, height, name, content) {
        return `<svg role="img" aria-label="${escaped(name)}" width="${width}" height="${height}" ` +
            `viewBox="0 0 ${width} ${height}">${content}</svg>`;
    }

    // Axes with a grid: functions from values to pixels, and the SVG behind the data.
    function axes({ width, height, x, y, xTicks = [], yTicks = [], xName = "", yName = "", names = {},
        left = 40, right = 12, top = 10, bottom = 42 }) {
        const X = value => left + (value - x[0]) / (x[1] - x[0]) * (width - left - right);
        const Y = value => height - bottom - (value - y[0]) / (y[1] - y[0]) * (height - top - bottom);
        const parts = [];
        for (const tick of xTicks)
            parts.push(`<path class="grid" d="M${X(tick)} ${top}V${height - bottom}"/>`,
                `<text class="quiet" x="${X(tick)}" y="${height - bottom + 16}" text-anchor="middle">` +
                `${escaped(names[tick] ?? fixed(tick, 0))}</text>`);
        for (const tick of yTicks)
            parts.push(`<path class="grid" d="M${left} ${Y(tick)}H${width - right}"/>`,
                `<text class="quiet" x="${left - 7}" y="${Y(tick) + 4}" text-anchor="end">` +
                `${fixed(tick, Number.isInteger(tick) ? 0 : 1)}</text>`);
        parts.push(`<text class="quiet" x="${(left + width - right) / 2}" y="${height - 6}" ` +
            `text-anchor="middle">${escaped(xName)}</text>`);
        if (yName) parts.push(`<text class="quiet" x="0" y="${top - 2}">${escaped(yName)}</text>`);
        return { X, Y, behind: parts.join("") };
    }

    const line = (points, style) =>
        `<path class="line" ${style} d="M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}"/>`;

    const marks = {
        circle: (x, y, size, style) => `<circle cx="${x}" cy="${y}" r="${size}" ${style}/>`,
        square: (x, y, size, style) =>
            `<rect x="${x - size}" y="${y - size}" width="${2 * size}" height="${2 * size}" ${style}/>`,
        diamond: (x, y, size, style) =>
            `<path d="M${x} ${y - size}l${size} ${size}l${-size} ${size}l${-size} ${-size}z" ${style}/>`,
        triangle: (x, y, size, style) =>
            `<path d="M${x} ${y - size}l${size} ${1.8 * size}h${-2 * size}z" ${style}/>`,
        star: (x, y, size, style) => {
            const points = Array.from({ length: 10 }, (_, i) => {
                const [radius, angle] = [i % 2 ? 0.45 * size : size, Math.PI * (i / 5 - 0.5)];
                return `${(x + radius * Math.cos(angle)).toFixed(1)},${(y + radius * Math.sin(angle)).toFixed(1)}`;
            });
            return `<polygon points="${points.join(" ")}" ${style}/>`;
        },
    };

    // Round values between two bounds, for the ticks of an axis.
    function ticks(low, high, most = 6) {
        const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
        const step = [1, 2, 5, 10].map(factor => factor * power).find(one => one >= rough);
        const first = Math.ceil(low / step - 1e-9);
        const last = Math.floor(high / step + 1e-9);
        return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
    }

    return { data, panel, fixed, signed, escaped, mean, unpacked, widthOf, picture, axes, line, marks, ticks };
})();
