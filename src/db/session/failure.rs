//! Why a transaction gave no rows.

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;

/// Why a transaction gave no rows.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Postgres refused: the transaction is undone and the session fit for the next one.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The connection failed; whether the transaction happened is unknown.
    #[error("connection to the database failed: {0}")]
    Broken(#[from] io::Error),
    /// Every session was in use for as long as the pool waits.
    #[error("no database session became free in time")]
    Busy,
}

/// What Postgres said.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    /// SQLSTATE.
    pub code: String,
    /// MESSAGE.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

impl Failure {
    /// The refusal in an error message; messages in no known encoding are read as well as they can be.
    pub(super) fn refused(body: &ErrorResponseBody) -> Self {
        let mut refusal = Refusal::default();
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => refusal.code = text(),
                b'M' => refusal.message = text(),
                b'D' => refusal.detail = Some(text()),
                b'H' => refusal.hint = Some(text()),
                _ => {}
            }
        }
        Self::Refused(Box::new(refusal))
    }

    /// The refusal, if Postgres gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Broken(_) | Self::Busy => None,
        }
    }
}
