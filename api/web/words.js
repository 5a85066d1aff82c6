/** What the page calls the values of the API's enums. A value that this page doesn't know shows as it is, in lower case. */

/** In the order of a message's life. */
export const STATUSES = {
  QUEUED: "Queued",
  CANCELLED: "Cancelled",
  FAILED: "Not sent",
  SENT: "Sent",
  DELIVERED: "Delivered",
  OPENED: "Opened",
  NOT_DELIVERED: "Not delivered",
};

/** Statuses of a patient who was not reached: somebody has to do something. */
export const NEEDS_ATTENTION = ["FAILED", "NOT_DELIVERED"];

/** @type {Record<string, {label: string, meaning: string, tone: "neutral" | "good" | "caution" | "bad"}>} */
const HEALTH = {
  UNKNOWN: { label: "Address not confirmed yet", meaning: "No email to this address has been answered for yet.", tone: "neutral" },
  GOOD: { label: "Address works", meaning: "An email to this address was delivered.", tone: "good" },
  SOFT_BOUNCED: { label: "Last email came back", meaning: "The last email came back, and nobody says that this is final.", tone: "caution" },
  BOUNCED: { label: "Address bounces", meaning: "An email to this address came back for good. Check the address with the patient.", tone: "bad" },
  COMPLAINED: { label: "Marked as spam", meaning: "The patient marked an email as spam; the email service may no longer write to this address.", tone: "caution" },
};

const EVENTS = {
  QUEUED: "Queued by the email service",
  ACCEPTED: "Accepted by the email server",
  DEFERRED: "Put off by the destination, to be tried again",
  DELIVERED: "Delivered to the destination server",
  OPENED: "Opened",
  CLICKED: "A link was followed",
  BOUNCED: "Came back for good",
  SOFT_BOUNCED: "Came back, perhaps not for good",
  REJECTED: "Dropped: the email service did not try",
  COMPLAINED: "Marked as spam by the patient",
  UNSUBSCRIBED: "The patient unsubscribed",
  RESUBSCRIBED: "The patient subscribed again",
  AUTO_REPLIED: "An automatic answer came, such as out of office",
  ATTEMPT_DEFERRED: "Attempt put off, to be tried again",
  ATTEMPT_AMBIGUOUS: "Connection broke after the handover",
  FAILED: "Refused for good by the mail server",
  CANCELLED: "Cancelled by staff",
  UNKNOWN: "Reported something that Carepost does not know",
};

/** A machine's load or click is kept as evidence and proves no reader, so it isn't called "Opened". */
const MACHINE_EVENTS = { OPENED: "Loaded by a mail proxy", CLICKED: "Link followed by a scanner" };

const SOURCES = {
  WEBHOOK: { label: "Webhook", meaning: "The email service reported it by itself." },
  POLL: { label: "Poll", meaning: "Carepost asked the email service and found it." },
  REPLAY: { label: "Replay", meaning: "Read again from a stored report of the email service." },
  ATTEMPT: { label: "Own attempt", meaning: "Carepost's own attempt to send, or an action of staff." },
};

const PROVIDERS = {
  amazon_ses: "Amazon SES",
  brevo: "Brevo",
  mailersend: "MailerSend",
  mailgun: "Mailgun",
  mailjet: "Mailjet",
  mailtrap: "Mailtrap",
  mandrill: "Mandrill",
  postal: "Postal",
  postmark: "Postmark",
  resend: "Resend",
  scaleway: "Scaleway",
  sendgrid: "SendGrid",
  sparkpost: "SparkPost",
  unisender_go: "Unisender Go",
};

const ROLES = { STAFF: "Staff", ADMIN: "Administrator", AUDITOR: "Auditor, reads only" };

const plain = (/** @type {string} */ value) => value.toLowerCase().replaceAll("_", " ");

/** @param {string} value an EmailHealth */
export function healthOf(value) {
  return HEALTH[value] ?? { label: plain(value), meaning: "", tone: "neutral" };
}

/** @param {{kind: string, machine: boolean}} event a MessageEvent */
export function eventWords({ kind, machine }) {
  return (machine && MACHINE_EVENTS[kind]) || EVENTS[kind] || plain(kind);
}

/** @param {string} value an EventSource */
export function sourceOf(value) {
  return SOURCES[value] ?? { label: plain(value), meaning: "" };
}

/** @param {string} value a Role */
export function roleWords(value) {
  return ROLES[value] ?? plain(value);
}

/** @param {{kind: string, provider: string | null}} account a SendingAccount */
export function accountKind({ kind, provider }) {
  if (kind === "ESP") return PROVIDERS[provider?.toLowerCase() ?? ""] ?? provider ?? "Email service";
  return kind === "GMAIL" ? "Gmail" : "Own mail server";
}
