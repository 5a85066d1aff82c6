/** GraphiQL for this server: queries and mutations by POST, subscriptions by graphql-transport-ws. */

import { takeTokenFromAddress, token } from "../web/auth.js";

const { GraphiQL, React, ReactDOM } = globalThis;

const FIRST_LOOK = `# All that can be asked for is in the book on the left.
query FirstLook {
  viewer { role practice { name } }
  patients(search: "Ada", first: 1) {
    nodes {
      id
      name
      messages(first: 5) {
        liveCursor
        nodes {
          subject
          statusLabel
          statusAt
          explanation { text nextStep }
        }
      }
    }
  }
}
`;
const LIVE = `# Start it, and write to somebody on the page.
subscription Live {
  messageStatusChanged {
    cursor
    message {
      subject
      statusLabel
      statusAt
      patient { name }
    }
  }
}
`;

/** What is kept between reloads is kept for this browser tab only, as the token is: queries may name patients. */
const storage = sessionStorage;

takeTokenFromAddress();

const url = new URL("graphql", location.href);
const socket = new URL(url);
socket.protocol = url.protocol.replace("http", "ws");

const fetcher = GraphiQL.createFetcher({ url: url.href, subscriptionUrl: socket.href, enableIncrementalDelivery: false });
/** What is written under Headers, else who is signed in on this tab. The schema is asked for before there are headers. */
const signedIn = token() ? { Authorization: `Bearer ${token()}` } : {};

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, {
    fetcher: (asked, options) => fetcher(asked, { ...options, headers: { ...signedIn, ...options?.headers } }),
    storage,
    defaultTabs: [{ query: FIRST_LOOK }, { query: LIVE }],
    defaultHeaders: token() ? undefined : '{ "Authorization": "Bearer <token>" }',
    defaultEditorToolsVisibility: token() ? false : "headers",
  }),
);
