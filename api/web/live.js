/**
 * GraphQL subscriptions over one WebSocket: the protocol `graphql-transport-ws`
 * (https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md), with reconnection.
 *
 * @typedef {"connecting" | "live" | "reconnecting" | "offline" | "closed"} LiveState
 *
 * @typedef {object} Subscriber
 * @property {string} query
 * @property {() => Record<string, unknown>} variables asked anew at every (re)start, so that it can carry `since`
 * @property {(data: any) => void} onNext
 * @property {(errors: Array<{message: string, extensions?: {code?: string}}>) => void} [onErrors] it starts again
 *   after a pause, unless it is ended in here
 */

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;
const HEARTBEAT = 20_000;
const ANSWER_WITHIN = 10_000;
/** Failed attempts in a row after which the page says Offline; it goes on trying all the same. */
const OFFLINE_AFTER = 5;

/** Exponential, and half of it random: a restarted server isn't met by all pages in the same second. */
function pause(attempt) {
  const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt);
  return longest / 2 + Math.random() * (longest / 2);
}

export class LiveConnection extends EventTarget {
  /** @type {LiveState} */ state = "connecting";
  #socket = null;
  #subscribers = new Set();
  #lastId = 0;
  #attempt = 0;
  #timers = { reconnect: 0, heartbeat: 0, answer: 0 };

  /**
   * @param {object} options
   * @param {string} options.token
   * @param {() => void} options.onRefused the server closed with 4401 or 4403: the token may have run out
   */
  constructor({ token, onRefused }) {
    super();
    this.token = token;
    this.onRefused = onRefused;
    this.url = new URL("graphql", document.baseURI);
    this.url.protocol = this.url.protocol === "https:" ? "wss:" : "ws:";
    addEventListener("online", this.#hurry);
    addEventListener("offline", this.#unplugged);
    document.addEventListener("visibilitychange", this.#hurry);
    this.#connect();
  }

  /**
   * @param {Subscriber} subscriber
   * @returns {() => void} ends the subscription
   */
  subscribe(subscriber) {
    const entry = { ...subscriber, id: "", failures: 0, timer: 0 };
    this.#subscribers.add(entry);
    if (this.state === "live") this.#start(entry);
    return () => {
      clearTimeout(entry.timer);
      this.#subscribers.delete(entry);
      if (entry.id && this.state === "live") this.#send({ id: entry.id, type: "complete" });
    };
  }

  close() {
    removeEventListener("online", this.#hurry);
    removeEventListener("offline", this.#unplugged);
    document.removeEventListener("visibilitychange", this.#hurry);
    this.#subscribers.clear();
    this.#drop();
    this.#become("closed");
  }

  #connect() {
    this.#drop();
    const socket = new WebSocket(this.url, "graphql-transport-ws");
    this.#socket = socket;
    this.#timers.answer = setTimeout(() => this.#lost(), ANSWER_WITHIN);
    socket.onopen = () => this.#send({ type: "connection_init", payload: { Authorization: `Bearer ${this.token}` } });
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#lost(code);
  }

  #receive(message) {
    clearTimeout(this.#timers.answer);
    this.#beat();
    const entry = [...this.#subscribers].find(({ id }) => id === message.id);
    switch (message.type) {
      case "connection_ack":
        this.#attempt = 0;
        this.#become("live");
        for (const each of this.#subscribers) this.#start(each);
        break;
      case "ping":
        this.#send({ type: "pong" });
        break;
      case "next":
        if (!entry) break;
        if (message.payload.errors?.length) {
          this.#send({ id: entry.id, type: "complete" });
          this.#failed(entry, message.payload.errors);
          break;
        }
        entry.failures = 0;
        entry.onNext(message.payload.data);
        break;
      case "error":
        if (entry) this.#failed(entry, message.payload);
        break;
      case "complete":
        // Nobody asked for it: the server is letting go of its subscribers, perhaps to restart.
        if (entry) this.#failed(entry, []);
        break;
    }
  }

  #start(entry) {
    clearTimeout(entry.timer);
    this.#lastId += 1;
    entry.id = String(this.#lastId);
    this.#send({ id: entry.id, type: "subscribe", payload: { query: entry.query, variables: entry.variables() } });
  }

  #failed(entry, errors) {
    entry.id = "";
    if (errors.some((error) => error.extensions?.code === "UNAUTHENTICATED")) this.onRefused();
    entry.onErrors?.(errors);
    if (!this.#subscribers.has(entry)) return;
    entry.timer = setTimeout(() => this.state === "live" && this.#start(entry), pause(entry.failures));
    entry.failures += 1;
  }

  /** @param {number} [code] how the socket was closed */
  #lost(code) {
    this.#drop();
    if (code === 4401 || code === 4403) this.onRefused();
    if (this.state === "closed") return;
    this.#become(navigator.onLine && this.#attempt < OFFLINE_AFTER ? "reconnecting" : "offline");
    this.#timers.reconnect = setTimeout(() => this.#connect(), pause(this.#attempt));
    this.#attempt += 1;
  }

  #drop() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    for (const entry of this.#subscribers) {
      clearTimeout(entry.timer);
      entry.id = "";
    }
    if (!this.#socket) return;
    const socket = this.#socket;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  /** A laptop that slept, or a network that went away, leaves sockets that look open and are dead. */
  #beat() {
    clearTimeout(this.#timers.heartbeat);
    this.#timers.heartbeat = setTimeout(() => {
      this.#send({ type: "ping" });
      this.#timers.answer = setTimeout(() => this.#lost(), ANSWER_WITHIN);
    }, HEARTBEAT);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #hurry = () => {
    if (this.state !== "reconnecting" && this.state !== "offline") return;
    if (!document.hidden && navigator.onLine) this.#connect();
  };

  #unplugged = () => {
    if (this.state !== "closed") this.#lost();
  };
}
