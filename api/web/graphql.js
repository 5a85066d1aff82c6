/** GraphQL over HTTP. What can go wrong is one of the errors below. */

/** The token is missing, wrong or past its time. */
export class Unauthenticated extends Error {}

/** No answer came; whether the server did the work is unknown. */
export class Unreachable extends Error {}

/** The server answered with errors; `code` is the first one's `extensions.code`. */
export class GraphQLRefused extends Error {
  /** @param {Array<{message: string, extensions?: {code?: string}}>} errors */
  constructor(errors) {
    super(errors[0]?.message ?? "The server gave no reason.");
    this.errors = errors;
    this.code = errors[0]?.extensions?.code ?? "";
  }
}

const PATIENCE = 20_000;

export class GraphQLClient {
  /**
   * @param {object} options
   * @param {string} options.token
   * @param {() => void} [options.onUnauthenticated] called besides the error that is thrown
   */
  constructor({ token, onUnauthenticated }) {
    this.url = new URL("graphql", document.baseURI);
    this.token = token;
    this.onUnauthenticated = onUnauthenticated;
  }

  /**
   * Runs one query or mutation.
   * @param {string} query
   * @param {Record<string, unknown>} [variables]
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<any>} `data`
   * @throws {Unauthenticated | Unreachable | GraphQLRefused} or an AbortError when `signal` was raised
   */
  async request(query, variables = {}, { signal } = {}) {
    const timeout = AbortSignal.timeout(PATIENCE);
    let status;
    let body;
    try {
      const response = await fetch(this.url, {
        method: "POST",
        headers: {
          accept: "application/graphql-response+json, application/json;q=0.9",
          authorization: `Bearer ${this.token}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ query, variables }),
        credentials: "omit",
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
      status = response.status;
      // A proxy in between may answer with a page of its own; it is no GraphQL and says nothing but its status.
      body = await response.json().catch(() => null);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable("Carepost could not be reached.", { cause: error });
    }
    const errors = body?.errors ?? [];
    if (status === 401 || errors.some((error) => error.extensions?.code === "UNAUTHENTICATED")) {
      this.onUnauthenticated?.();
      throw new Unauthenticated(errors[0]?.message ?? "Sign in again.");
    }
    if (errors.length > 0) throw new GraphQLRefused(errors);
    if (status === 429) throw new Unreachable("Carepost is busy: too many requests. Try again in a moment.");
    if (!body?.data) throw new Unreachable(`Carepost could not answer (HTTP ${status}).`);
    return body.data;
  }
}

/**
 * An error in words for the page.
 * @param {unknown} error
 * @returns {string}
 */
export function wordsOf(error) {
  if (error instanceof Unreachable || error instanceof GraphQLRefused || error instanceof Unauthenticated) return error.message;
  console.error(error);
  return "Something went wrong on this page.";
}
