// One GraphQL Yoga process on PORT, as its documentation sets it up; it remembers documents, parsed and validated, by
// itself. Every request must carry a token, and sees its practice alone.
import { createServer } from "node:http";
import { createSchema, createYoga } from "graphql-yoga";
import jwt from "jsonwebtoken";
import { Session } from "./database.mjs";

const typeDefs = /* GraphQL */ `
  type Query {
    patient(id: ID!): Patient
    messages(first: Int!, after: String): MessageConnection!
    patients(search: String!, first: Int!): PatientConnection!
  }
  type Patient {
    id: ID!
    name: String!
    email: String!
    emailHealth: String!
    openTracking: Boolean!
    messages(first: Int!, after: String): MessageConnection!
  }
  type Message {
    id: ID!
    subject: String!
    verdict: String!
    queuedAt: String!
    scheduledAt: String
    sentAt: String
    deliveredAt: String
    openedAt: String
    account: SendingAccount!
    patient: Patient!
    resendOf: Message
  }
  type SendingAccount {
    id: ID!
    name: String!
    kind: String!
    provider: String
  }
  type MessageConnection {
    nodes: [Message!]!
    pageInfo: PageInfo!
  }
  type PatientConnection {
    nodes: [Patient!]!
    pageInfo: PageInfo!
  }
  type PageInfo {
    hasNextPage: Boolean!
    endCursor: String
  }
`;

// One row more than is shown tells whether there is another page.
async function page(first, read) {
  const rows = await read(first + 1);
  const nodes = rows.slice(0, first);
  return { nodes, pageInfo: { hasNextPage: rows.length > first, endCursor: nodes.at(-1)?.id ?? null } };
}

const resolvers = {
  Query: {
    patient: (_, { id }, { session }) => session.patient(id),
    messages: (_, { first, after }, { session }) => page(first, (count) => session.messages(count, after)),
    patients: (_, { search, first }, { session }) => page(first, (count) => session.search(search, count)),
  },
  Patient: {
    messages: (patient, { first, after }, { session }) =>
      page(first, (count) => session.messagesOf(patient.id, count, after)),
  },
  Message: {
    account: (message, _, { session }) => session.accounts.load(message.account_id),
    patient: (message, _, { session }) => session.patients.load(message.patient_id),
    // Only the id of it is ever asked for here.
    resendOf: (message) => (message.resend_of ? { id: message.resend_of } : null),
  },
};

const yoga = createYoga({
  schema: createSchema({ typeDefs, resolvers }),
  context: ({ request }) => {
    const token = (request.headers.get("authorization") ?? "").slice("Bearer ".length);
    const claims = jwt.verify(token, process.env.BENCH_SECRET, { algorithms: ["HS256"] });
    return { session: new Session(claims.practice_id) };
  },
  plugins: [
    { onExecute: ({ args }) => ({ onExecuteDone: () => args.contextValue.session.end() }) },
  ],
  graphiql: false,
  landingPage: false,
  logging: false,
});

createServer(yoga).listen(Number(process.env.PORT), "127.0.0.1");

// Whoever started us holds this pipe; when they are gone, so are we.
process.stdin.on("end", () => process.exit(0)).resume();
