// What a mouse and fingers do on the timeline. It reads events and calls the timeline; keys are the timeline's own.

/** A pointer that moves less than this has clicked. */
const CLICK = 4;
/** A finger that rests so long selects from there on, and does not move the timeline. */
const REST = 450;

export function listen(timeline) {
  const { svg } = timeline;
  const xOf = (event) => event.clientX - svg.getBoundingClientRect().left;
  const pointers = new Map();
  let begun = null;

  const pinch = () => {
    const [one, other] = [...pointers.values()];
    return { middle: (one + other) / 2, apart: Math.max(Math.abs(one - other), 1) };
  };
  const end = () => {
    clearTimeout(begun?.resting);
    begun = null;
  };
  const rest = () => {
    if (!begun || begun.moved) return;
    Object.assign(begun, { pans: false, moved: true });
    timeline.select(timeline.instant(begun.x), timeline.instant(begun.x));
    navigator.vibrate?.(10);
  };

  svg.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    svg.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, xOf(event));
    if (pointers.size === 2) {
      end();
      begun = { pinched: pinch(), window: [timeline.from, timeline.to] };
      return;
    }
    const isFinger = event.pointerType === 'touch';
    begun = { x: xOf(event), window: [timeline.from, timeline.to], pans: event.shiftKey || isFinger, moved: false };
    if (isFinger) begun.resting = setTimeout(rest, REST);
  });
  svg.addEventListener('pointermove', (event) => {
    const x = xOf(event);
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, x);
    timeline.point(timeline.instant(x));
    if (begun?.pinched) {
      if (pointers.size === 2) timeline.stretch(begun.window, begun.pinched, pinch());
      return;
    }
    if (!begun) return;
    begun.moved ||= Math.abs(x - begun.x) > CLICK;
    if (!begun.moved) return;
    clearTimeout(begun.resting);
    if (begun.pans) {
      const by = ((begun.x - x) / timeline.width) * (begun.window[1] - begun.window[0]);
      timeline.look(begun.window[0] + by, begun.window[1] + by);
    } else {
      timeline.select(timeline.instant(begun.x), timeline.instant(x));
    }
  });
  svg.addEventListener('pointerup', (event) => {
    pointers.delete(event.pointerId);
    if (!begun || begun.pinched) return end();
    const { moved, pans } = begun;
    end();
    if (!moved) timeline.hooks.play(timeline.instant(xOf(event)));
    else if (!pans && timeline.selection) timeline.hooks.select(...timeline.selection);
    return undefined;
  });
  svg.addEventListener('pointercancel', (event) => {
    pointers.delete(event.pointerId);
    end();
  });
  svg.addEventListener('pointerleave', () => timeline.point(null));
  // A finger that rests asks for no menu, and one that selects does not scroll the page.
  svg.addEventListener('contextmenu', (event) => { if (begun) event.preventDefault(); });
  svg.addEventListener('touchmove', (event) => { if (begun && !begun.pans) event.preventDefault(); }, { passive: false });
  svg.addEventListener('wheel', (event) => {
    event.preventDefault();
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (sideways) timeline.pan((event.deltaX || event.deltaY) / timeline.width);
    else timeline.zoom(event.deltaY > 0 ? 1.25 : 0.8, timeline.instant(xOf(event)));
  }, { passive: false });
}
