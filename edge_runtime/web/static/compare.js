// Two studies side by side.

import { ask } from "./ask.js";
import { Palette } from "./heat_map.js";
import { identityOf, Reading } from "./reading.js";
import { answerOf } from "./study_answer.js";
import { moment, sourceLine } from "./wording.js";

const place = document.getElementById("compare");
const settings = { labels: JSON.parse(place.dataset.labels), palette: new Palette(JSON.parse(place.dataset.palette)) };

for (const card of place.querySelectorAll("[data-study]")) {
  const reading = new Reading(card, settings);
  ask(card.dataset.study).then(async (study) => {
    const answer = await answerOf(study, card.dataset.study);
    answer.identity = identityOf(card.dataset.study);
    reading.part("name").textContent = moment(study.received);
    reading.part("source").textContent = sourceLine(answer);
    reading.show(answer, moment(study.received));
  }).catch((error) => reading.showRefusal({ message: error.message }));
}
