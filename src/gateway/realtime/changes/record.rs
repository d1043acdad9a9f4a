//! A change as clients get it: the `data` of a `postgres_changes` event.

use time::{OffsetDateTime, macros::format_description};

use super::{
    encode,
    pgoutput::{Cell, Change, Identity, Kind},
    table::{Access, Table},
};
use crate::gateway::realtime::protocol::push_string;

/// Larger events are cut.
const MAX_BYTES: usize = 1 << 20;
/// Values of at most this many bytes stay in an event that is cut.
const SMALL_VALUE: usize = 64;

/// Seconds from 1970 to 2000, when Postgres' clock starts.
const POSTGRES_EPOCH: i64 = 946_684_800;

/// What an event says to somebody of this access who asked for these columns. `committed` is in microseconds since
/// 2000.
pub fn data(table: &Table, access: &Access, select: Option<&[String]>, change: &Change, committed: i64) -> String {
    let view = View { table, access, select };
    let whole = view.render(change, committed, None);
    if whole.len() <= MAX_BYTES {
        return whole;
    }
    view.render(change, committed, Some(SMALL_VALUE))
}

/// The event of a change that cannot be shown.
pub fn error(table: &Table, kind: Kind, error: &str) -> String {
    let mut out = head(table, kind);
    out.push_str(",\"commit_timestamp\":null,\"columns\":[],\"record\":{}");
    if kind != Kind::Insert {
        out.push_str(",\"old_record\":{}");
    }
    out.push_str(",\"errors\":[");
    push_string(&mut out, Some(error));
    out.push_str("]}");
    out
}

struct View<'a> {
    table: &'a Table,
    access: &'a Access,
    select: Option<&'a [String]>,
}

impl View<'_> {
    fn render(&self, change: &Change, committed: i64, limit: Option<usize>) -> String {
        let mut out = head(self.table, change.kind);
        out.push_str(",\"commit_timestamp\":\"");
        out.push_str(&timestamp(committed));
        out.push_str("\",\"columns\":[");
        let mut first = true;
        for (position, column) in self.table.relation.columns.iter().enumerate() {
            if self.shows(position) {
                comma(&mut out, &mut first);
                out.push_str("{\"name\":");
                push_string(&mut out, Some(&column.name));
                out.push_str(",\"type\":");
                push_string(&mut out, Some(&self.table.types[position].name));
                out.push('}');
            }
        }
        out.push(']');
        if let Some(new) = &change.new {
            out.push_str(",\"record\":");
            self.row(&mut out, limit, |position| match (&new[position], &change.old) {
                // With the whole old row at hand nothing is missing.
                (Cell::Unsent, Some(old)) if self.table.relation.identity == Identity::Full => Some(&old[position]),
                (Cell::Unsent, _) => None,
                (cell, _) => Some(cell),
            });
        }
        if change.kind != Kind::Insert {
            out.push_str(",\"old_record\":");
            self.row(&mut out, limit, |position| self.old_cell(change, position));
        }
        out.push_str(if limit.is_some() {
            ",\"errors\":[\"Error 413: Payload Too Large\"]}"
        } else {
            ",\"errors\":null}"
        });
        out
    }

    /// The old row's value in a column, if events may carry it: identity columns, of a deleted row with policies only
    /// those of the primary key.
    fn old_cell<'a>(&self, change: &'a Change, position: usize) -> Option<&'a Cell> {
        let relation = &self.table.relation;
        let in_key = self.table.primary_key.contains(&position);
        if change.kind == Kind::Delete && self.table.row_security && !in_key {
            return None;
        }
        if !relation.columns[position].identity {
            return None;
        }
        match (&change.old, &change.new) {
            (Some(old), _) => old.get(position),
            // An update that leaves the identity alone does not send it.
            (None, Some(new)) => new.get(position),
            (None, None) => None,
        }
    }

    fn row<'a>(&self, out: &mut String, limit: Option<usize>, cell: impl Fn(usize) -> Option<&'a Cell>) {
        out.push('{');
        let mut first = true;
        for (position, column) in self.table.relation.columns.iter().enumerate() {
            let Some(cell) = cell(position).filter(|_| self.shows(position)) else {
                continue;
            };
            let mut value = String::new();
            match cell.text() {
                Some(text) => encode::value(&mut value, text, &self.table.types[position]),
                None => value.push_str("null"),
            }
            if limit.is_none_or(|limit| value.len() <= limit) {
                comma(out, &mut first);
                push_string(out, Some(&column.name));
                out.push(':');
                out.push_str(&value);
            }
        }
        out.push('}');
    }

    fn shows(&self, position: usize) -> bool {
        let name = &self.table.relation.columns[position].name;
        let selected = self.select.is_none_or(|columns| columns.contains(name));
        self.access.columns[position] && (selected || self.table.primary_key.contains(&position))
    }
}

fn head(table: &Table, kind: Kind) -> String {
    let mut out = String::from("{\"schema\":");
    push_string(&mut out, Some(&table.relation.schema));
    out.push_str(",\"table\":");
    push_string(&mut out, Some(&table.relation.name));
    out.push_str(",\"type\":\"");
    out.push_str(kind.name());
    out.push('"');
    out
}

fn comma(out: &mut String, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

/// `2026-11-22T16:16:20.620Z`
fn timestamp(micros: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let nanos = (i128::from(micros) + i128::from(POSTGRES_EPOCH) * 1_000_000) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|moment| moment.format(format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_times_are_in_utc_with_milliseconds() {
        assert_eq!(timestamp(0), "2000-01-01T00:00:00.000Z");
        assert_eq!(timestamp(1_500), "2000-01-01T00:00:00.001Z");
    }
}
