//! Postgres' logical replication messages, protocol version 1.

use axum::body::Bytes;
use bytes::Buf;

/// A table as its next changes are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Which columns an old row carries.
    pub identity: Identity,
    /// The published columns.
    pub columns: Vec<Column>,
}

/// `pg_class.relreplident`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The primary key, or nothing where there is none.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// The columns of an index.
    Index,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `pg_type.oid`
    pub type_oid: u32,
    /// Whether it belongs to the replica identity.
    pub identity: bool,
}

/// One column's value in a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// NULL.
    Null,
    /// Kept out of line and left alone by the update, so not sent.
    Unsent,
    /// In Postgres' text format.
    Text(Bytes),
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It came.
    Insert,
    /// It changed.
    Update,
    /// It went.
    Delete,
}

impl Kind {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A row's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The [`Relation::oid`].
    pub relation: u32,
    /// What happened.
    pub kind: Kind,
    /// The row before: whole, or its identity columns with all others null. An update sends it only if the identity
    /// is the whole row or has changed.
    pub old: Option<Vec<Cell>>,
    /// The row after.
    pub new: Option<Vec<Cell>>,
}

/// A message that concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How a table's changes look from here on; sent anew when its definition, grants or policies changed.
    Relation(Relation),
    /// A row changed.
    Change(Change),
    /// Tables, by [`Relation::oid`], lost all rows.
    Truncate(Vec<u32>),
}

/// The stream cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("malformed replication message")]
pub struct Malformed;

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Self
    }
}

impl Cell {
    /// The value's text; `None` for null and for what was not sent.
    pub fn text(&self) -> Option<&str> {
        match self {
            // The connection's encoding is UTF-8.
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null | Self::Unsent => None,
        }
    }
}

impl Relation {
    /// Where a column stands.
    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|each| each.name == column)
    }
}

/// Reads a message; `None` for one that does not concern us (type, origin).
///
/// # Errors
/// When it is cut off or not what the protocol says.
pub fn decode(mut data: Bytes) -> Result<Option<Message>, Malformed> {
    let data = &mut data;
    Ok(match data.try_get_u8()? {
        b'R' => Some(Message::Relation(relation(data)?)),
        b'I' => {
            let relation = data.try_get_u32()?;
            expect(data, b'N')?;
            Some(Message::Change(Change {
                relation,
                kind: Kind::Insert,
                old: None,
                new: Some(tuple(data)?),
            }))
        }
        b'U' => {
            let relation = data.try_get_u32()?;
            let old = match data.first() {
                Some(b'K' | b'O') => {
                    data.advance(1);
                    Some(tuple(data)?)
                }
                _ => None,
            };
            expect(data, b'N')?;
            Some(Message::Change(Change {
                relation,
                kind: Kind::Update,
                old,
                new: Some(tuple(data)?),
            }))
        }
        b'D' => {
            let relation = data.try_get_u32()?;
            let (b'K' | b'O') = data.try_get_u8()? else {
                return Err(Malformed);
            };
            Some(Message::Change(Change {
                relation,
                kind: Kind::Delete,
                old: Some(tuple(data)?),
                new: None,
            }))
        }
        b'T' => {
            let tables = data.try_get_u32()?;
            data.try_get_u8()?; // cascade, restart identity
            let tables = (0..tables).map(|_| data.try_get_u32()).collect::<Result<_, _>>()?;
            Some(Message::Truncate(tables))
        }
        _ => None,
    })
}

fn relation(data: &mut Bytes) -> Result<Relation, Malformed> {
    let oid = data.try_get_u32()?;
    let (schema, name) = (string(data)?, string(data)?);
    let identity = match data.try_get_u8()? {
        b'd' => Identity::Default,
        b'n' => Identity::Nothing,
        b'f' => Identity::Full,
        b'i' => Identity::Index,
        _ => return Err(Malformed),
    };
    let columns = (0..data.try_get_u16()?)
        .map(|_| {
            let flags = data.try_get_u8()?;
            let name = string(data)?;
            let type_oid = data.try_get_u32()?;
            data.try_get_i32()?; // the type's modifier
            Ok(Column {
                name,
                type_oid,
                identity: flags & 1 == 1,
            })
        })
        .collect::<Result<_, Malformed>>()?;
    Ok(Relation {
        oid,
        schema,
        name,
        identity,
        columns,
    })
}

fn tuple(data: &mut Bytes) -> Result<Vec<Cell>, Malformed> {
    (0..data.try_get_u16()?)
        .map(|_| {
            Ok(match data.try_get_u8()? {
                b'n' => Cell::Null,
                b'u' => Cell::Unsent,
                b't' => {
                    let length = data.try_get_u32()? as usize;
                    if data.remaining() < length {
                        return Err(Malformed);
                    }
                    Cell::Text(data.split_to(length))
                }
                _ => return Err(Malformed),
            })
        })
        .collect()
}

fn string(data: &mut Bytes) -> Result<String, Malformed> {
    let end = data.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
    let text = data.split_to(end);
    data.advance(1);
    // An empty schema stands for pg_catalog, whose tables are never published.
    String::from_utf8(text.to_vec()).map_err(|_| Malformed)
}

fn expect(data: &mut Bytes, byte: u8) -> Result<(), Malformed> {
    if data.try_get_u8()? == byte {
        Ok(())
    } else {
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELATION: &[u8] =
        b"R\0\0\x40\x01public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0note\0\0\0\0\x19\xff\xff\xff\xff";
    const UPDATE: &[u8] = b"U\0\0\x40\x01K\0\x02t\0\0\0\x017nN\0\x02t\0\0\0\x018u";

    #[test]
    fn a_table_and_a_row_are_read() {
        let Ok(Some(Message::Relation(relation))) = decode(Bytes::from_static(RELATION)) else {
            panic!("no relation")
        };
        assert_eq!(
            (relation.oid, &*relation.schema, &*relation.name),
            (0x4001, "public", "t")
        );
        assert_eq!(relation.identity, Identity::Default);
        let columns: Vec<_> = relation
            .columns
            .iter()
            .map(|c| (&*c.name, c.type_oid, c.identity))
            .collect();
        assert_eq!(columns, [("id", 23, true), ("note", 25, false)]);
        let Ok(Some(Message::Change(change))) = decode(Bytes::from_static(UPDATE)) else {
            panic!("no change")
        };
        assert_eq!(change.kind, Kind::Update);
        assert_eq!(change.old, Some(vec![Cell::Text("7".into()), Cell::Null]));
        assert_eq!(change.new, Some(vec![Cell::Text("8".into()), Cell::Unsent]));
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error() {
        for whole in [RELATION, UPDATE, b"T\0\0\0\x01\0\0\0\x40\x01"] {
            for length in 0..whole.len() {
                assert!(decode(Bytes::copy_from_slice(&whole[..length])).is_err(), "{length}");
            }
        }
        assert!(matches!(decode(Bytes::from_static(b"Y")), Ok(None)));
    }
}
