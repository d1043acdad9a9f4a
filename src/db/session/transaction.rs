//! A session and the transactions it runs.

use std::{collections::HashMap, fmt, io, pin::Pin, task};

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    IsNull,
    message::{backend::Message, frontend},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{Failure, connect::Socket};

/// A session with this many statements is replaced: their plans are memory of the server.
const MAX_STATEMENTS: u32 = 1_000;

/// Buffers that grew beyond this for one large answer are given back.
const MAX_IDLE_BUFFER: usize = 256 << 10;

/// One statement of a transaction.
///
/// Parameters are text of no declared type: Postgres infers the type, as it would for a literal. Rows come back as
/// text too. Statements are prepared once a session, by role and SQL: a plan with row security belongs to one role,
/// and under one name two roles would have it made anew at every change (27-97 us).
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    role: &'a str,
    sql: &'a str,
    params: &'a [Option<&'a [u8]>],
}

impl<'a> Step<'a> {
    /// A statement that runs as the login role, or whose plan does not depend on who runs it.
    pub fn new(sql: &'a str, params: &'a [Option<&'a [u8]>]) -> Self {
        Self { role: "", sql, params }
    }

    /// The same statement, run as a role that an earlier step has taken with `set_config('role', .., true)`.
    #[must_use]
    pub fn as_role(self, role: &'a str) -> Self {
        Self { role, ..self }
    }
}

/// A row of text columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row(Vec<Option<Bytes>>);

impl Row {
    /// A column's bytes, uncopied; `None` for null and for a column that is not there.
    pub fn bytes(&self, column: usize) -> Option<&Bytes> {
        self.0.get(column)?.as_ref()
    }

    /// A column's text; `None` for null and for a column that is not there.
    pub fn text(&self, column: usize) -> Option<&str> {
        // The session's encoding is UTF-8, so this never fails.
        std::str::from_utf8(self.bytes(column)?).ok()
    }
}

/// One session. It reads its answers itself: no task and no channel between request and socket.
pub struct Session {
    socket: Box<dyn Socket>,
    input: BytesMut,
    pub(super) output: BytesMut,
    /// Role, then SQL, to the number in the statement's name.
    prepared: HashMap<Box<str>, HashMap<Box<str>, u32>>,
    statements: u32,
    /// Whether statements stay prepared.
    prepares: bool,
    /// True from the first byte written to the last one read.
    busy: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("statements", &self.statements)
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(socket: Box<dyn Socket>, prepares: bool) -> Self {
        Self {
            socket,
            input: BytesMut::with_capacity(16 << 10),
            output: BytesMut::with_capacity(4 << 10),
            prepared: HashMap::new(),
            statements: 0,
            prepares,
            busy: true,
        }
    }

    pub(super) fn idle(&mut self) {
        self.busy = false;
        if self.input.capacity() > MAX_IDLE_BUFFER && self.input.is_empty() {
            self.input = BytesMut::with_capacity(16 << 10);
        }
        if self.output.capacity() > MAX_IDLE_BUFFER {
            self.output = BytesMut::with_capacity(4 << 10);
        }
    }

    pub(super) async fn send(&mut self) -> io::Result<()> {
        self.busy = true;
        self.socket.write_all(&self.output).await?;
        self.socket.flush().await?;
        self.output.clear();
        Ok(())
    }

    pub(super) async fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.input)? {
                return Ok(message);
            }
            self.input.reserve(8 << 10);
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether the next transaction may run here: not left in the middle of an answer, not closed by the server
    /// while it was idle, not grown fat with statements.
    pub(super) fn is_fit(&mut self) -> bool {
        if self.busy || !self.output.is_empty() || self.statements >= MAX_STATEMENTS {
            return false;
        }
        let mut space = [0; 512];
        let mut space = ReadBuf::new(&mut space);
        let mut context = task::Context::from_waker(task::Waker::noop());
        // An idle server says nothing, apart from a changed setting or that it is about to end.
        Pin::new(&mut self.socket)
            .poll_read(&mut context, &mut space)
            .is_pending()
    }

    /// Runs the steps as one transaction and gives the rows of each; committed when this returns `Ok`.
    ///
    /// The caller must run this to its end, in a task of its own where the caller may be given up: a session
    /// dropped in the middle is not used again, and whether its transaction committed nobody knows.
    ///
    /// # Errors
    /// [`Failure::Refused`] when Postgres refuses a step or the commit: then nothing happened.
    /// [`Failure::Broken`] when the connection fails.
    pub async fn transaction(&mut self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        let mut parsed = Vec::new(); // In the order in which the server will confirm them.
        for step in steps {
            let known = self.prepared.get(step.role).and_then(|of_role| of_role.get(step.sql));
            let number = known.copied().unwrap_or(self.statements);
            let name = if self.prepares {
                format!("s{number}")
            } else {
                String::new()
            };
            if number == self.statements {
                // In its place behind the settings: only there are role and search_path right.
                frontend::parse(&name, step.sql, [], &mut self.output)?;
                if self.prepares {
                    parsed.push((step, number));
                    self.statements += 1;
                }
            }
            let text = |value: &Option<&[u8]>, out: &mut BytesMut| match value {
                Some(value) => {
                    out.extend_from_slice(value);
                    Ok(IsNull::No)
                }
                None => Ok(IsNull::Yes),
            };
            frontend::bind("", &name, [], step.params, text, [], &mut self.output)
                .map_err(|_| io::Error::other("a statement has more parameters than the protocol can carry"))?;
            // No Describe: every caller knows the shape of its rows.
            frontend::execute("", 0, &mut self.output)?;
        }
        frontend::sync(&mut self.output);
        self.send().await?;

        let mut rows = vec![Vec::new(); steps.len()];
        let (mut done, mut failure, mut parsed) = (0, None, parsed.into_iter());
        loop {
            match self.receive().await? {
                // The statement stays even if the transaction does not.
                Message::ParseComplete => {
                    if let Some((step, number)) = parsed.next() {
                        self.prepared
                            .entry(step.role.into())
                            .or_default()
                            .insert(step.sql.into(), number);
                    }
                }
                Message::DataRow(row) => {
                    let buffer = row.buffer_bytes();
                    let columns = row.ranges().map(|range| Ok(range.map(|range| buffer.slice(range))));
                    if let Some(rows) = rows.get_mut(done) {
                        rows.push(Row(columns.collect()?));
                    }
                }
                Message::CommandComplete(_) | Message::EmptyQueryResponse => done += 1,
                Message::ErrorResponse(body) => failure = failure.or(Some(Failure::refused(&body))),
                // Only now is the outcome known: a deferred constraint fails after the last row.
                Message::ReadyForQuery(body) => {
                    // Anything but idle is a step that opened a transaction of its own; such a session is dropped.
                    if body.status() == b'I' {
                        self.idle();
                    }
                    return failure.map_or(Ok(rows), Err);
                }
                _ => {}
            }
        }
    }
}
