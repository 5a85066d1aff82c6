// What the resolvers read, each statement prepared once a connection. A request has one transaction, whose first round
// trip sets role and practice, so the same row-level security holds as for Carepost.
import DataLoader from "dataloader";
import pg from "pg";

// Postgres writes "2026-11-24 10:00:00+00"; with a T it is the ISO 8601 that goes out. A Date would cost more.
pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text) => text.replace(" ", "T"));

export const pool = new pg.Pool({
  host: process.env.BENCH_PGHOST,
  user: process.env.BENCH_PGUSER,
  database: process.env.BENCH_PGDATABASE,
  // As many connections as Carepost's pool holds, with its setting: these queries are too small for jit to pay.
  max: 8,
  options: "-c jit=off",
});

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const PATIENT = 'id, name, email, email_health AS "emailHealth", open_tracking AS "openTracking"';
const MESSAGE =
  'id, subject, verdict, delivered_at AS "deliveredAt", opened_at AS "openedAt", queued_at AS "queuedAt", ' +
  'scheduled_at AS "scheduledAt", sent_at AS "sentAt", resend_of, account_id, patient_id';

export class Session {
  constructor(practice) {
    if (!UUID.test(practice)) throw new Error("no practice");
    this.practice = practice;
    this.accounts = this.#loader("accounts", "SELECT id, name, kind, provider FROM sending_account");
    this.patients = this.#loader("patients", `SELECT ${PATIENT} FROM patient`);
  }

  patient(id) {
    return this.#rows("patient", `SELECT ${PATIENT} FROM patient WHERE practice_id = $1 AND id = $2`, [id]).then(
      (rows) => rows[0] ?? null,
    );
  }

  messagesOf(patient, first, after) {
    const of = `FROM message WHERE practice_id = $1 AND patient_id = $3`;
    return after
      ? this.#rows("of-after", `SELECT ${MESSAGE} ${of} AND id < $4 ORDER BY id DESC LIMIT $2`, [first, patient, after])
      : this.#rows("of", `SELECT ${MESSAGE} ${of} ORDER BY id DESC LIMIT $2`, [first, patient]);
  }

  messages(first, after) {
    const all = `SELECT ${MESSAGE} FROM message WHERE practice_id = $1`;
    return after
      ? this.#rows("all-after", `${all} AND id < $3 ORDER BY id DESC LIMIT $2`, [first, after])
      : this.#rows("all", `${all} ORDER BY id DESC LIMIT $2`, [first]);
  }

  search(text, first) {
    const found = "strpos(lower_name, lower($2)) > 0 OR strpos(lower_email, lower($2)) > 0";
    const order = "ORDER BY lower_name, id LIMIT $3";
    return this.#rows("search", `SELECT ${PATIENT} FROM patient WHERE practice_id = $1 AND (${found}) ${order}`, [
      text,
      first,
    ]);
  }

  // Gives the connection back; nothing is written, so how the transaction ends makes no difference.
  async end() {
    if (!this.client) return;
    const client = await this.client;
    await client.query("COMMIT");
    client.release();
  }

  #loader(name, select) {
    return new DataLoader(async (ids) => {
      const rows = await this.#rows(name, `${select} WHERE practice_id = $1 AND id = ANY($2)`, [ids]);
      const found = new Map(rows.map((row) => [row.id, row]));
      return ids.map((id) => found.get(id) ?? null);
    });
  }

  async #rows(name, text, values) {
    this.client ??= this.#begin();
    const client = await this.client;
    return (await client.query({ name, text, values: [this.practice, ...values] })).rows;
  }

  async #begin() {
    const client = await pool.connect();
    const set = (setting, value) => `set_config('${setting}', '${value}', true)`;
    await client.query(
      `BEGIN; SELECT ${set("role", "carepost_app")}, ${set("carepost.practice_id", this.practice)}`,
    );
    return client;
  }
}
