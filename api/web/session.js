/** Who is signed in, and the two ways to the server. */

import { GraphQLClient } from "./graphql.js";
import { LiveConnection } from "./live.js";
import { VIEWER } from "./operations.js";

export class Session {
  /**
   * Enters with a token.
   * @param {string} token
   * @param {() => void} onUnauthenticated the token was good and no longer is
   * @returns {Promise<Session>}
   * @throws what `GraphQLClient.request` throws
   */
  static async enter(token, onUnauthenticated) {
    const { viewer } = await new GraphQLClient({ token }).request(VIEWER);
    return new Session(token, viewer, onUnauthenticated);
  }

  constructor(token, viewer, onUnauthenticated) {
    this.viewer = viewer;
    this.canWrite = viewer.role !== "AUDITOR";
    this.isAdmin = viewer.role === "ADMIN";
    this.api = new GraphQLClient({ token, onUnauthenticated });
    this.live = new LiveConnection({
      token,
      // Asked by HTTP whether it is the token: the socket may have been refused for another reason.
      onRefused: () => this.api.request(VIEWER).catch(() => {}),
    });
  }

  leave() {
    this.api.onUnauthenticated = undefined;
    this.live.close();
  }
}
