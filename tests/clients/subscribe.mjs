// A subscriber as a front end has it: graphql-ws over ws. Prints every change as a line of JSON.
// Environment: URL, TOKEN, SINCE (a cursor), RETRIES (reconnects of the client's own; each resumes by the last cursor),
// RENEW (a token that is given by a ping once connected).
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const query = `subscription ($since: String) {
  messageStatusChanged(since: $since) { message { id status } cursor }
}`;
const variables = { since: process.env.SINCE || null };
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const client = createClient({
  url: process.env.URL,
  webSocketImpl: WebSocket,
  lazy: false,
  connectionParams: { Authorization: `Bearer ${process.env.TOKEN}` },
  retryAttempts: Number(process.env.RETRIES || 0),
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 20)),
  shouldRetry: () => true,
  onNonLazyError: (error) => say({ closed: error?.code ?? String(error) }),
  on: {
    connected: (socket) => {
      say({ connected: true });
      if (process.env.RENEW) {
        const payload = { Authorization: `Bearer ${process.env.RENEW}` };
        socket.send(JSON.stringify({ type: 'ping', payload }));
      }
    },
    pong: (received, payload) => say({ renewed: payload?.expiresAt }),
  },
});

// The client sends the same payload again after a reconnect, so the payload itself carries the last cursor.
client.subscribe(
  { query, variables },
  {
    next: ({ data, errors }) => {
      if (errors) {
        say({ errors });
        return;
      }
      const { message, cursor } = data.messageStatusChanged;
      variables.since = cursor;
      say({ ...message, cursor });
    },
    error: (error) => {
      say({ failed: error?.code ?? (Array.isArray(error) ? error : String(error)) });
      process.exit(1);
    },
    complete: () => say({ complete: true }),
  },
);
