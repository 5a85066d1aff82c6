// The audits of GraphQL over HTTP by the people who write the specification. Prints {id, name, status, reason} a line.
// Environment: URL, TOKEN.
import { serverAudits } from 'graphql-http';

const signedIn = (url, init = {}) =>
  fetch(url, { ...init, headers: { ...init.headers, authorization: `Bearer ${process.env.TOKEN}` } });

for (const audit of serverAudits({ url: process.env.URL, fetchFn: signedIn })) {
  const { id, name, status, reason } = await audit.fn();
  process.stdout.write(JSON.stringify({ id, name, status, reason: reason ?? null }) + '\n');
}
