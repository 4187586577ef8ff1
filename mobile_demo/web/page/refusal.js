// What cannot be judged, said plainly. The reasons are the runtime's (edge_runtime/errors.py).

export const LAPTOP = "Open it on the laptop, which reads more kinds of files.";

/** The file was read and cannot be judged: an answer, not a fault. */
export class Refusal extends Error {
  /**
   * @param {string} reason such as "unreadable", "too_large"
   * @param {string} message one plain sentence
   * @param {string} [remedy] what the reader can do next
   */
  constructor(reason, message, remedy = "") {
    super(message);
    this.name = "Refusal";
    this.reason = reason;
    this.remedy = remedy;
  }
}

/** The page itself failed (a download, the model): nothing is said about the file. */
export class Failure extends Error {
  constructor(message, remedy = "") {
    super(message);
    this.name = "Failure";
    this.remedy = remedy;
  }
}
