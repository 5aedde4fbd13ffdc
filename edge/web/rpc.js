/** What the contract's errors, close codes and tokens mean to a client. Pure. */

export const CODE = {
  DEADLINE: -32004,
  THROTTLED: -32008,
  UNAVAILABLE: -32014,
  UNAUTHENTICATED: -32016,
  REFUSED: -32600,
  INTERNAL: -32603,
};
export const CLOSE = { LOST: 1006, BAD_PROTOCOL: 4500, NOT_AUTHENTICATED: 4501, TOKEN_EXPIRED: 4502 };

/** An error answer. `retryable` and `retryAfterMs` are the server's word; CLIENT_* reasons are made here. */
export class RpcError extends Error {
  constructor(message, { code, reason = '', retryable = false, retryAfterMs = 0, traceId = '' }) {
    super(message);
    this.name = 'RpcError';
    Object.assign(this, { code, reason, retryable, retryAfterMs, traceId });
  }

  /** Of a JSON-RPC error object. A throttled call may always be repeated. */
  static of({ code, message, data }) {
    const { reason, retryable, retry_after_ms: retryAfterMs, trace_id: traceId } = data ?? {};
    return new RpcError(message, { code, reason, retryable: retryable || code === CODE.THROTTLED, retryAfterMs, traceId });
  }
}

/** Whether a client comes back by itself after this WebSocket close code: all but 4500..4999. */
export const comesBack = (code) => code < 4500 || code > 4999;

/**
 * Milliseconds to wait before attempt number `failures + 1`: exponential with full jitter, so that the clients of a
 * dead server do not come back as one ("Exponential Backoff And Jitter", AWS Architecture Blog).
 */
export function backoff(failures, { backoffMs, backoffMaxMs, random }) {
  return random() * Math.min(backoffMaxMs, backoffMs * 2 ** Math.max(0, failures));
}

/** A JSON-RPC error object that was made here, not by the server. */
export const failure = (code, reason, message, more = {}) => ({ code, message, data: { reason, ...more } });

/** The user id that a JWT speaks for, unchecked: the server checks. */
export function subject(token) {
  try {
    return JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'))).sub ?? '';
  } catch {
    return '';
  }
}
