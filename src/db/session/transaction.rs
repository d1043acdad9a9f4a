//! A session and the transactions it runs.

use std::{fmt, io, ops::Range, pin::Pin, sync::Arc, task};

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    IsNull,
    message::{backend::Message, frontend},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{Failure, connect::Socket, statements::Statements};

/// Buffers that grew beyond this for one large answer are given back.
const MAX_IDLE_BUFFER: usize = 256 << 10;

/// Rows up to this size are copied out of the buffer they were read into, so that it serves the next answer too;
/// larger ones keep it, and the session gets a new one.
const MAX_COPIED_ROW: usize = 32 << 10;

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
    binary: bool,
    unread: bool,
}

impl<'a> Step<'a> {
    /// A statement that runs as the login role, or whose plan does not depend on who runs it.
    pub fn new(sql: &'a str, params: &'a [Option<&'a [u8]>]) -> Self {
        Self {
            role: "",
            sql,
            params,
            binary: false,
            unread: false,
        }
    }

    /// The same statement, run as a role that an earlier step has taken with `set_config('role', .., true)`.
    #[must_use]
    pub fn as_role(self, role: &'a str) -> Self {
        Self { role, ..self }
    }

    /// The same statement, its columns in the binary form of their types, which for texts and JSON is their text.
    #[must_use]
    pub fn in_binary(self) -> Self {
        Self { binary: true, ..self }
    }

    /// The same statement, of whose rows none is given.
    #[must_use]
    pub fn unread(self) -> Self {
        Self { unread: true, ..self }
    }
}

/// A row of columns, texts unless asked for otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    buffer: Bytes,
    columns: Vec<Option<Range<usize>>>,
}

impl Row {
    /// A column's bytes, uncopied; `None` for null and for a column that is not there.
    pub fn bytes(&self, column: usize) -> Option<Bytes> {
        self.range(column).map(|range| self.buffer.slice(range))
    }

    /// A column's text; `None` for null and for a column that is not there.
    pub fn text(&self, column: usize) -> Option<&str> {
        // The session's encoding is UTF-8, so this never fails for texts.
        std::str::from_utf8(&self.buffer[self.range(column)?]).ok()
    }

    fn range(&self, column: usize) -> Option<Range<usize>> {
        self.columns.get(column)?.clone()
    }
}

/// One session. It reads its answers itself: no task and no channel between request and socket.
pub struct Session {
    socket: Box<dyn Socket>,
    input: BytesMut,
    pub(super) output: BytesMut,
    statements: Statements,
    /// Whether statements stay prepared.
    prepares: bool,
    state: State,
    /// The server's process and its secret, which a request to cancel has to name.
    pub(super) process: (i32, i32),
}

/// Where a session is between two transactions' ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    Idle,
    /// From the first byte written to the last.
    Writing,
    /// Until the last byte is read.
    Reading,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(socket: Box<dyn Socket>, prepares: bool) -> Self {
        Self {
            socket,
            input: BytesMut::with_capacity(16 << 10),
            output: BytesMut::with_capacity(4 << 10),
            statements: Statements::default(),
            prepares,
            state: State::Writing,
            process: (0, 0),
        }
    }

    pub(super) fn idle(&mut self) {
        self.state = State::Idle;
        if self.input.capacity() > MAX_IDLE_BUFFER && self.input.is_empty() {
            self.input = BytesMut::with_capacity(16 << 10);
        }
        if self.output.capacity() > MAX_IDLE_BUFFER {
            self.output = BytesMut::with_capacity(4 << 10);
        }
    }

    pub(super) async fn send(&mut self) -> io::Result<()> {
        self.state = State::Writing;
        self.socket.write_all(&self.output).await?;
        self.socket.flush().await?;
        self.output.clear();
        self.state = State::Reading;
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

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether the server works on a transaction that nobody waits for any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state == State::Reading
    }

    /// Reads what is left of an abandoned transaction's answer, after a request to cancel it was sent. The signal may
    /// have come when it was over; then it is spent on the empty transaction that follows, and not on the next one.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        for last in [false, true] {
            while !matches!(self.receive().await?, Message::ReadyForQuery(body) if !last || body.status() == b'I') {}
            if !last {
                frontend::sync(&mut self.output);
                self.send().await?;
            }
        }
        self.idle();
        Ok(())
    }

    /// Whether the next transaction may run here: not left in the middle of an answer, not closed by the server
    /// while it was idle.
    pub(super) fn is_fit(&mut self) -> bool {
        if !self.is_idle() || !self.output.is_empty() {
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
    /// A caller may give up: the pool then has the server cancel the transaction. Whether it committed before that
    /// nobody knows.
    ///
    /// # Errors
    /// [`Failure::Refused`] when Postgres refuses a step or the commit: then nothing happened.
    /// [`Failure::Broken`] when the connection fails.
    pub async fn transaction(&mut self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        let mut parsed = Vec::new(); // In the order in which the server will confirm them.
        for step in steps {
            let name = match self.statements.find(step.role, step.sql) {
                Some(name) => name,
                None => {
                    if let Some(oldest) = self.statements.make_room() {
                        frontend::close(b'S', &oldest, &mut self.output)?;
                    }
                    let name = if self.prepares {
                        self.statements.new_name()
                    } else {
                        "".into()
                    };
                    // In its place behind the settings: only there are role and search_path right.
                    frontend::parse(&name, step.sql, [], &mut self.output)?;
                    if self.prepares {
                        parsed.push((step, Arc::clone(&name)));
                    }
                    name
                }
            };
            let text = |value: &Option<&[u8]>, out: &mut BytesMut| match value {
                Some(value) => {
                    out.extend_from_slice(value);
                    Ok(IsNull::No)
                }
                None => Ok(IsNull::Yes),
            };
            frontend::bind(
                "",
                &name,
                [],
                step.params,
                text,
                [i16::from(step.binary)],
                &mut self.output,
            )
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
                    if let Some((step, name)) = parsed.next() {
                        self.statements.insert(step.role, step.sql, name);
                    }
                }
                Message::DataRow(_) if steps.get(done).is_some_and(|step| step.unread) => {}
                Message::DataRow(row) => {
                    let buffer = match row.buffer().len() {
                        0..=MAX_COPIED_ROW => Bytes::copy_from_slice(row.buffer()),
                        _ => row.buffer_bytes().clone(),
                    };
                    let columns = row.ranges().collect()?;
                    if let Some(rows) = rows.get_mut(done) {
                        rows.push(Row { buffer, columns });
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
