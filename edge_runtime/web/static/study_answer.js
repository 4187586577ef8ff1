// A study of the records in the shape of a fresh answer, so that both are drawn by the same code.

import { ask } from "./ask.js";

/** @param {object} study the API's @param {string} address of it */
export async function answerOf(study, address) {
  const readable = study.width !== null;
  const heatmap = readable && study.answer.label ? await ask(`${address}/heatmap`) : null;
  return {
    ...study.answer,
    facts: study.facts,
    operating_point: study.operating_point,
    heatmap,
    image: readable ? {
      url: `${address}/image`, full: `${address}/image?edge=4096`, ...shown(study),
      source_width: study.width, source_height: study.height, source_format: study.source_format,
    } : null,
  };
}

function shown({ width, height }, edge = 1024) {
  const scale = Math.min(1, edge / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}
