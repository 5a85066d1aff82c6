// One PostGraphile process on PORT. With BENCH_SECRET every request must carry a token and sees its practice alone, by
// the same role and row-level security as Carepost's; without, it reads as the database's owner.
import { createServer } from "node:http";
import { grafserv } from "postgraphile/grafserv/node";
import { makePgService } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { postgraphile } from "postgraphile";
import jwt from "jsonwebtoken";

const secret = process.env.BENCH_SECRET;

function context(request) {
  if (!secret) return {};
  const header = request.http?.getHeader("authorization") ?? "";
  const claims = jwt.verify(header.slice("Bearer ".length), secret, { algorithms: ["HS256"] });
  return { pgSettings: { role: "carepost_app", "carepost.practice_id": claims.practice_id } };
}

const preset = {
  extends: [PostGraphileAmberPreset],
  pgServices: [
    makePgService({
      poolConfig: {
        host: process.env.BENCH_PGHOST,
        user: process.env.BENCH_PGUSER,
        database: process.env.BENCH_PGDATABASE,
        // As many connections as Carepost's pool holds.
        max: 8,
        // Carepost's connections have it too: these queries are too small for it to pay.
        options: "-c jit=off",
      },
      schemas: ["public"],
    }),
  ],
  grafast: { context, explain: false },
  grafserv: { graphqlPath: "/graphql", graphiql: false, watch: false, websockets: false },
};

const server = createServer();
const serv = postgraphile(preset).createServ(grafserv);
await serv.addTo(server);
server.listen(Number(process.env.PORT), "127.0.0.1");

// Whoever started us holds this pipe; when they are gone, so are we.
process.stdin.on("end", () => process.exit(0)).resume();
