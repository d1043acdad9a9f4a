//! The duties: what is done, how often, and what wakes it.

use std::time::Duration;

use super::Duty;

const SECOND: Duration = Duration::from_secs(1);

/// What most duties have in common: they go by the clock, one call a tick.
const BY_THE_CLOCK: Duty = Duty {
    name: "",
    statement: "",
    every: Some(Duration::from_secs(60)),
    rest: Duration::ZERO,
    listens: false,
    repeats: false,
};

/// Gives free seats to those who wait.
///
/// Most get theirs without us: a start takes a free seat, and whoever frees one gives it to the head of the line, in
/// their own transactions. What is left is what no statement sees: a raised capacity, a new skill, several seats at
/// once.
pub const QUEUE: Duty = Duty {
    name: "queue",
    statement: "select count(chat.assign_next())",
    every: None,
    listens: true,
    repeats: true,
    ..BY_THE_CLOCK
};

/// Takes sessions from agents who say nothing, and gives them to the next.
pub const UNANSWERED: Duty = Duty {
    name: "unanswered",
    statement: "select count(chat.requeue_unanswered())",
    every: Some(SECOND.saturating_mul(5)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Sends those who waited too long to the queue that stands in.
pub const OVERFLOW: Duty = Duty {
    name: "overflow",
    statement: "select count(chat.overflow_next())",
    every: Some(SECOND.saturating_mul(5)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Numbers the line. When its head leaves, everybody's place changes: a second's changes are written together.
pub const POSITIONS: Duty = Duty {
    name: "positions",
    statement: "select chat.refresh_positions()",
    every: Some(SECOND.saturating_mul(2)),
    rest: SECOND,
    listens: true,
    repeats: true,
};

/// Tells those in line their place, now and then, and only when it got better.
pub const NOTICES: Duty = Duty {
    name: "notices",
    statement: "select chat.tell_places()",
    every: Some(SECOND.saturating_mul(2)),
    rest: SECOND,
    listens: true,
    repeats: true,
};

/// Looks who is connected.
pub const CONNECTIONS: Duty = Duty {
    name: "connections",
    statement: "select chat.watch_connections()",
    every: Some(SECOND.saturating_mul(5)),
    ..BY_THE_CLOCK
};

/// Takes from agents who are gone what waits for them.
pub const LOST_AGENTS: Duty = Duty {
    name: "lost_agents",
    statement: "select chat.release_lost()",
    every: Some(SECOND.saturating_mul(5)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Ends the sessions of customers who are gone.
pub const LOST_CUSTOMERS: Duty = Duty {
    name: "lost_customers",
    statement: "select count(chat.end_lost())",
    every: Some(SECOND.saturating_mul(5)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Stops those who have not typed for long or are connected no more: the portal's dots have no end of their own.
pub const TYPING: Duty = Duty {
    name: "typing",
    statement: "select chat.expire_typing()",
    every: Some(SECOND.saturating_mul(5)),
    ..BY_THE_CLOCK
};

/// Ends chats in which nobody writes: a closed tab says no goodbye, and holds a seat.
pub const IDLE: Duty = Duty {
    name: "idle",
    statement: "select count(chat.end_idle())",
    repeats: true,
    ..BY_THE_CLOCK
};

/// Sets right what statements past the triggers (a restore, a replica role) left wrong.
pub const RECONCILE: Duty = Duty {
    name: "reconcile",
    statement: "select chat.reconcile()",
    every: Some(SECOND.saturating_mul(300)),
    ..BY_THE_CLOCK
};

/// Erases sessions of deleted accounts.
pub const ERASURE: Duty = Duty {
    name: "erasure",
    statement: "select count(chat.erase_due())",
    every: Some(SECOND.saturating_mul(10)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Erases and deletes what was kept long enough, a hundred sessions at a time: nobody waits for it.
pub const RETENTION: Duty = Duty {
    name: "retention",
    statement: "select chat.retain()",
    every: Some(SECOND.saturating_mul(5)),
    ..BY_THE_CLOCK
};

/// Clears what nobody looks at any more.
pub const PRUNE: Duty = Duty {
    name: "prune",
    statement: "select chat.prune()",
    every: Some(SECOND.saturating_mul(300)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Counts files that are due for removal. What follows is no statement: see [`super::files`].
pub const FILES: Duty = Duty {
    name: "files",
    statement: "select count(*) from chat.file_removals where next_try_at <= clock_timestamp()",
    every: Some(SECOND.saturating_mul(5)),
    ..BY_THE_CLOCK
};

/// Adds up what reports are made of: what was touched since, and agents' time.
pub const TOTALS: Duty = Duty {
    name: "totals",
    statement: "select chat.roll_up_touched()",
    every: Some(SECOND.saturating_mul(15)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Tells those who started outside business hours that nobody may be there.
pub const OUT_OF_HOURS: Duty = Duty {
    name: "out_of_hours",
    statement: "select chat.tell_out_of_hours()",
    every: Some(SECOND.saturating_mul(2)),
    ..BY_THE_CLOCK
};

/// Keeps the transcripts of chats that ended, and of those that changed since.
pub const TRANSCRIPTS: Duty = Duty {
    name: "transcripts",
    statement: "select chat.save_transcripts()",
    every: Some(SECOND.saturating_mul(5)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Counts how often canned replies were used.
pub const CANNED_REPLIES: Duty = Duty {
    name: "canned_replies",
    statement: "select chat.count_canned_reply_uses()",
    every: Some(SECOND.saturating_mul(15)),
    repeats: true,
    ..BY_THE_CLOCK
};

/// Every duty of a worker that is one statement.
pub const ALL: &[Duty] = &[
    QUEUE,
    UNANSWERED,
    OVERFLOW,
    POSITIONS,
    NOTICES,
    CONNECTIONS,
    LOST_AGENTS,
    LOST_CUSTOMERS,
    TYPING,
    IDLE,
    RECONCILE,
    ERASURE,
    RETENTION,
    PRUNE,
    TOTALS,
    OUT_OF_HOURS,
    TRANSCRIPTS,
    CANNED_REPLIES,
];
