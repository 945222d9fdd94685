/* The drawing board: a pen for mouse, stylus, finger and arrow keys, or a picture laid on it. */
(() => {
  const SIDE = 280; // the board's own units
  const PEN = 20;
  const SHEET = 196; // pixels of what is read: plenty for 28
  const STEP = 10; // of the pen on the keyboard
  const DEMO_MS = 1100; // in which a digit draws itself
  const { byId } = lenet;

  /**
   * Make the board. changed(event) is called when there is something else on it; `event` is the
   * pen's movement that did it, or null.
   */
  function makeBoard(changed) {
    const canvas = byId("board");
    const shown = canvas.getContext("2d");
    // What is read is drawn apart, black on white and always in the same size.
    const sheet = Object.assign(document.createElement("canvas"), { width: SHEET, height: SHEET });
    const page = sheet.getContext("2d", { willReadFrequently: true });
    page.scale(SHEET / SIDE, SHEET / SIDE);
    const board = { strokes: [], picture: null, digit: null, isDemo: false };
    let stroke = null;
    let pointer = null;
    let keyPen = null;
    let demo = 0;

    function stamp(context, points, from) {
      context.lineWidth = PEN;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      const first = points[Math.max(0, from - 1)];
      context.moveTo(first[0], first[1]);
      for (const [x, y] of points.slice(from)) context.lineTo(x, y);
      // A dot is a line of no length, which round caps make a disc.
      if (points.length === 1) context.lineTo(first[0], first[1]);
      context.stroke();
    }

    function redraw() {
      const scale = canvas.width / SIDE;
      const style = getComputedStyle(document.documentElement);
      shown.setTransform(scale, 0, 0, scale, 0, 0);
      shown.fillStyle = style.getPropertyValue("--paper");
      shown.fillRect(0, 0, SIDE, SIDE);
      shown.strokeStyle = style.getPropertyValue("--pen");
      page.fillStyle = "#fff";
      page.fillRect(0, 0, SIDE, SIDE);
      page.strokeStyle = "#000";
      if (board.picture) {
        const { bitmap, left, top, width, height } = board.picture;
        shown.drawImage(bitmap, left, top, width, height);
      }
      if (board.digit) drawDigit(board.digit);
      for (const points of board.strokes) for (const c of [shown, page]) stamp(c, points, 0);
      if (keyPen) drawKeyPen();
      byId("board-hint").hidden = !isEmpty();
    }

    function drawDigit(image) {
      const small = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
      lenet.drawCells(small, image, 28, "ink", 0, 255);
      shown.imageSmoothingEnabled = false;
      shown.drawImage(small, 0, 0, SIDE, SIDE);
      shown.imageSmoothingEnabled = true;
    }

    function drawKeyPen() {
      shown.save();
      shown.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
      shown.lineWidth = keyPen.isDown ? 4 : 2;
      shown.beginPath();
      shown.arc(keyPen.x, keyPen.y, PEN / 2 + 2, 0, 2 * Math.PI);
      shown.stroke();
      shown.restore();
    }

    const onBoard = (frame, scale, left, top) => ({
      left: left + frame.left * scale, top: top + frame.top * scale, pixel: frame.pixel * scale,
    });

    const isEmpty = () => !board.strokes.length && !board.picture && !board.digit;

    /** Take away everything, without telling anyone. */
    function wipe() {
      cancelAnimationFrame(demo);
      board.strokes = [];
      board.picture?.bitmap.close?.();
      board.picture = board.digit = stroke = null;
      board.isDemo = false;
    }

    function lay(strokes, isDemo) {
      Object.assign(board, { strokes, isDemo });
      redraw();
      changed(null);
    }

    function begin(point) {
      if (board.isDemo || board.picture || board.digit) wipe();
      stroke = [point];
      board.strokes.push(stroke);
      redraw();
    }

    function extend(points) {
      const from = stroke.length;
      stroke.push(...points);
      for (const context of [shown, page]) stamp(context, stroke, from);
    }

    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) / box.width) * SIDE,
        ((event.clientY - box.top) / box.height) * SIDE,
      ];
    };

    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || pointer !== null) return;
      pointer = event.pointerId;
      canvas.setPointerCapture(pointer);
      keyPen = null;
      begin(place(event));
      changed(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== pointer || !stroke) return;
      const parts = event.getCoalescedEvents?.() ?? [];
      extend((parts.length ? parts : [event]).map(place));
      changed(event);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        if (event.pointerId === pointer) pointer = stroke = null;
      });
    }

    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.key in moves) {
        keyPen ??= { x: SIDE / 2, y: SIDE / 4, isDown: false };
        const [dx, dy] = moves[event.key];
        keyPen.x = Math.min(SIDE - STEP, Math.max(STEP, keyPen.x + STEP * dx));
        keyPen.y = Math.min(SIDE - STEP, Math.max(STEP, keyPen.y + STEP * dy));
        if (keyPen.isDown) extend([[keyPen.x, keyPen.y]]);
      } else if (event.key === " ") {
        keyPen ??= { x: SIDE / 2, y: SIDE / 4, isDown: false };
        keyPen.isDown = !keyPen.isDown;
        if (keyPen.isDown) begin([keyPen.x, keyPen.y]);
        lenet.say(keyPen.isDown ? "Pen down" : "Pen up");
      } else if (event.key === "Backspace") {
        board.undo();
      } else if (event.key === "Delete") {
        board.clear();
      } else return;
      event.preventDefault();
      redraw();
      changed(null);
    });
    canvas.addEventListener("blur", () => {
      if (keyPen) {
        keyPen = null;
        redraw();
      }
    });

    Object.assign(board, {
      redraw,
      isEmpty,
      clear() {
        wipe();
        if (keyPen) keyPen.isDown = false;
        redraw();
        changed(null);
      },
      undo() {
        if (board.picture || board.digit) wipe();
        board.strokes.pop();
        stroke = null;
        if (keyPen) keyPen.isDown = false;
        redraw();
        changed(null);
      },
      /** Lay a picture on the board; `pixels` is what is read. */
      showPicture(bitmap, pixels) {
        wipe();
        const scale = SIDE / Math.max(pixels.width, pixels.height);
        const [width, height] = [pixels.width * scale, pixels.height * scale];
        board.picture = {
          bitmap, pixels, scale, width, height, left: (SIDE - width) / 2, top: (SIDE - height) / 2,
        };
        redraw();
        changed(null);
      },
      /** Show a 28 x 28 image as it is. */
      showDigit(image) {
        wipe();
        board.digit = image;
        redraw();
        changed(null);
      },
      /** Draw strokes, lists of [x, y], as if someone had. */
      showStrokes(strokes) {
        wipe();
        lay(strokes, false);
      },
      /** Let strokes draw themselves, or show them at once to who wants no motion. */
      play(strokes) {
        wipe();
        const total = strokes.reduce((sum, points) => sum + points.length, 0);
        const isStill = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
        const begin = performance.now();
        const step = (now) => {
          let left = isStill ? total : Math.ceil(Math.min(1, Math.max(0, now - begin) / DEMO_MS) * total);
          if (left < total) demo = requestAnimationFrame(step);
          const drawn = [];
          for (const points of strokes) {
            if (left > 0) drawn.push(points.slice(0, left));
            left -= points.length;
          }
          lay(drawn.length ? drawn : [strokes[0].slice(0, 1)], true);
        };
        step(begin);
      },
      /**
       * Return what the network is to see, and where on the board it lies:
       * {image: 784 bytes or null, frame: {left, top, pixel} or null, in the board's units, ink}.
       */
      read() {
        if (board.digit) return { image: board.digit, frame: { left: 0, top: 0, pixel: SIDE / 28 } };
        if (!board.picture) {
          if (isEmpty()) return { image: null, frame: null };
          const found = lenet.normalize(lenet.toPlanes(page.getImageData(0, 0, SHEET, SHEET)));
          return { ...found, frame: found.frame && onBoard(found.frame, SIDE / SHEET, 0, 0) };
        }
        const { left, top, scale } = board.picture;
        board.picture.found ??= lenet.normalize(board.picture.pixels);
        const { found } = board.picture;
        return { ...found, frame: found.frame && onBoard(found.frame, scale, left, top) };
      },
    });
    return board;
  }

  Object.assign(lenet, { BOARD: SIDE, makeBoard });
})();
