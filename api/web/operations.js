/** Every GraphQL document that this page sends. */

const PATIENT_FIELDS = "id name email emailHealth openTracking";

const ROW_FIELDS = `
  id subject status statusLabel statusAt queuedAt scheduledAt sentAt
  explanation { code text nextStep }
  account { id name kind provider tracked }
  resendOf { id }`;

const ACCOUNT_FIELDS = "id kind provider name fromAddress tracked isDefault";

const HEALTH_FIELDS = `setUpSteps health {
      lastEventAt signatureFailures unconfirmed unreadable parked credentialsCheckedAt credentialsExpireAt
      advice { code severity text nextStep }
    }`;

const ERRORS = "errors { field message code }";

export const VIEWER = `query Viewer { viewer { subject role practice { id name timeZone } } }`;

export const PATIENTS = `query Patients($search: String!, $first: Int!, $after: String) {
  patients(search: $search, first: $first, after: $after) {
    nodes { ${PATIENT_FIELDS} }
    pageInfo { hasNextPage endCursor }
  }
}`;

export const PATIENT = `query Patient($id: ID!) { patient(id: $id) { ${PATIENT_FIELDS} } }`;

export const PATIENT_MESSAGES = `query PatientMessages($id: ID!, $filter: MessageFilter, $first: Int!, $after: String) {
  patient(id: $id) {
    ${PATIENT_FIELDS}
    messages(filter: $filter, first: $first, after: $after) {
      nodes { ${ROW_FIELDS} }
      pageInfo { hasNextPage endCursor }
      liveCursor
    }
  }
}`;

export const MESSAGE = `query Message($id: ID!) {
  message(id: $id) {
    ${ROW_FIELDS}
    patient { ${PATIENT_FIELDS} }
    text html recipient
    deliveredAt openedAt notDeliveredAt
    failure { kind smtpCode enhancedCode reason }
  }
}`;

export const MESSAGE_EVENTS = `query MessageEvents($id: ID!, $first: Int!, $after: String) {
  message(id: $id) {
    id
    events(first: $first, after: $after) {
      nodes { id kind occurredAt receivedAt source machine detail failure { smtpCode enhancedCode reason } }
      pageInfo { hasNextPage endCursor }
    }
  }
}`;

export const SENDING_ACCOUNTS = `query SendingAccounts { sendingAccounts { ${ACCOUNT_FIELDS} capabilities { delivery opens } } }`;

export const ACCOUNT_HEALTH = `query AccountHealth {
  sendingAccounts {
    ${ACCOUNT_FIELDS} webhookUrl
    ${HEALTH_FIELDS}
  }
}`;

export const FAILED_WEBHOOKS = `query FailedWebhooks($first: Int!) {
  webhookDeliveries(filter: { failed: true }, first: $first) {
    nodes { id state receivedAt events error account { id name } }
    pageInfo { hasNextPage }
  }
}`;

export const REPLAY_WEBHOOK = `mutation ReplayWebhook($input: ReplayWebhookDeliveryInput!) {
  replayWebhookDelivery(input: $input) { delivery { id state } ${ERRORS} }
}`;

export const SEND_MESSAGE = `mutation SendMessage($input: SendMessageInput!) {
  sendMessage(input: $input) { message { ${ROW_FIELDS} } ${ERRORS} }
}`;

export const RESEND_MESSAGE = `mutation ResendMessage($input: ResendMessageInput!) {
  resendMessage(input: $input) { message { ${ROW_FIELDS} } ${ERRORS} }
}`;

export const CANCEL_MESSAGE = `mutation CancelMessage($input: CancelMessageInput!) {
  cancelMessage(input: $input) { message { ${ROW_FIELDS} } ${ERRORS} }
}`;

export const CREATE_PATIENT = `mutation CreatePatient($input: CreatePatientInput!) {
  createPatient(input: $input) { patient { ${PATIENT_FIELDS} } ${ERRORS} }
}`;

export const UPDATE_PATIENT = `mutation UpdatePatient($input: UpdatePatientInput!) {
  updatePatient(input: $input) { patient { ${PATIENT_FIELDS} } ${ERRORS} }
}`;

export const MESSAGE_STATUS_CHANGED = `subscription MessageStatusChanged($patientId: ID!, $since: String) {
  messageStatusChanged(patientId: $patientId, since: $since) { message { ${ROW_FIELDS} } cursor }
}`;

export const ACCOUNT_HEALTH_CHANGED = `subscription AccountHealthChanged {
  accountHealthChanged {
    ${ACCOUNT_FIELDS} webhookUrl
    ${HEALTH_FIELDS}
  }
}`;
