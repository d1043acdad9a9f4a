//! The source of rows for writes: an insert, update or delete with what it returns.

use std::collections::BTreeSet;

use super::{
    super::{
        catalog::{Catalog, Column, Link, Relation},
        parse::{
            payload::Payload,
            prefer::{Missing, Resolution},
            select::Item,
        },
        plan::{
            read::{Node, Output},
            write::Conflict,
        },
    },
    Param, Sql,
    condition::{self, Embeds},
};

/// The payload's rows.
const BODY: &str = "pgrst_body";

/// A setting that counts the rows an upsert found, because nothing else tells them from new ones without a right to
/// read the table.
pub const UPDATED: &str = "pgrst.updated";

/// What a write needs to know.
pub struct Write<'a> {
    /// What there is.
    pub catalog: &'a Catalog,
    /// The table or view.
    pub relation: &'a Relation,
    /// What to give back; its conditions say which rows.
    pub node: &'a Node<'a>,
    /// Whether anything is given back.
    pub returning: bool,
}

impl Write<'_> {
    /// An insert, perhaps with a rule for conflicts. `only` adds conditions on the payload's rows (PUT).
    pub fn insert(
        &self,
        sql: &mut Sql,
        columns: &[&Column],
        missing: Missing,
        conflict: Option<&Conflict>,
        only: bool,
    ) {
        sql.push("insert into ").qualified(&self.relation.qualified());
        if !columns.is_empty() {
            sql.push(" (");
            sql.list(columns, ", ", |sql, column| {
                sql.name(&column.name);
            });
            sql.push(")");
        }
        sql.push(" select ");
        sql.list(columns, ", ", |sql, column| self.payload_column(sql, column));
        self.body(sql, columns, missing);
        if only {
            let payload_node = Node {
                alias: BODY.to_owned(),
                ..self.node.clone()
            };
            sql.push(" where ");
            condition::all(sql, self.catalog, &payload_node, Embeds::None);
        }
        if let Some(Conflict {
            resolution,
            columns: target,
        }) = conflict
        {
            // Without a `where`, the word `on` would belong to the source's join.
            if !only {
                sql.push(" where true");
            }
            sql.push(" on conflict (");
            sql.list(target, ", ", |sql, column| {
                sql.name(column);
            });
            if *resolution == Resolution::Ignore || columns.is_empty() {
                sql.push(") do nothing");
            } else {
                sql.push(") do update set ");
                sql.list(columns, ", ", |sql, column| {
                    sql.name(&column.name).push(" = excluded.").name(&column.name);
                });
                sql.push(" where pg_catalog.set_config(")
                    .literal(UPDATED)
                    .push(", (coalesce(nullif(");
                sql.push("pg_catalog.current_setting(").literal(UPDATED);
                sql.push(", true), ''), '0')::int8 + 1)::text, true) is not null");
            }
        }
        self.returned(sql);
    }

    /// An update of the rows that the conditions choose.
    pub fn update(&self, sql: &mut Sql, payload: &Payload, columns: &[&Column], missing: Missing) {
        if columns.is_empty() || payload.is_empty {
            return self.nothing(sql);
        }
        sql.push("update ").qualified(&self.relation.qualified()).push(" set ");
        sql.list(columns, ", ", |sql, column| {
            sql.name(&column.name).push(" = ");
            self.payload_column(sql, column);
        });
        sql.push(" from (select *");
        self.body(sql, columns, missing);
        sql.push(" limit 1) as ").name(BODY);
        self.chosen(sql);
        self.returned(sql);
    }

    /// A delete of the rows that the conditions choose.
    pub fn delete(&self, sql: &mut Sql) {
        sql.push("delete from ").qualified(&self.relation.qualified());
        self.chosen(sql);
        self.returned(sql);
    }

    /// What a write that has nothing to write gives back: no rows of the right shape.
    pub fn nothing(&self, sql: &mut Sql) {
        sql.push("select ");
        self.columns(sql);
        if self.returning {
            sql.push(" from ").qualified(&self.relation.qualified());
        }
        sql.push(" where false");
    }

    fn chosen(&self, sql: &mut Sql) {
        if !self.node.conditions.is_empty() {
            sql.push(" where ");
            condition::all(sql, self.catalog, self.node, Embeds::None);
        }
    }

    fn payload_column(&self, sql: &mut Sql, column: &Column) {
        let parser = self
            .catalog
            .representation(column)
            .and_then(|known| known.parse.as_ref());
        match parser {
            Some(parser) => sql.qualified(parser).push("(").column(BODY, &column.name).push(")"),
            None => sql.column(BODY, &column.name),
        };
    }

    /// Adds ` from` the payload's rows, with the types of the columns they are for.
    fn body(&self, sql: &mut Sql, columns: &[&Column], missing: Missing) {
        if columns.is_empty() {
            sql.push(" from pg_catalog.json_array_elements(").param(Param::Rows);
            sql.push("::json) as ").name(BODY);
            return;
        }
        let defaults: Vec<_> = columns
            .iter()
            .filter_map(|column| Some((column, column.default.as_ref()?)))
            .filter(|_| missing == Missing::Default)
            .collect();
        if missing == Missing::Default {
            // A default of an object's own, so that a sequence gives each its number.
            sql.push(" from (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(");
            sql.list(&defaults, ", ", |sql, (column, default)| {
                sql.literal(&column.name).push(", ").push(default);
            });
            sql.push(") || elem.value) as pgrst_all from pg_catalog.jsonb_array_elements(");
            sql.param(Param::Rows).push("::jsonb) as elem) as pgrst_payload, ");
            sql.push("pg_catalog.jsonb_to_recordset(pgrst_all)");
        } else {
            sql.push(" from pg_catalog.json_to_recordset(")
                .param(Param::Rows)
                .push("::json)");
        }
        sql.push(" as ").name(BODY).push(" (");
        sql.list(columns, ", ", |sql, column| {
            let parsed = self
                .catalog
                .representation(column)
                .is_some_and(|known| known.parse.is_some());
            sql.name(&column.name).push(" ");
            sql.push(if parsed { "json" } else { &column.type_name });
        });
        sql.push(")");
    }

    fn returned(&self, sql: &mut Sql) {
        sql.push(" returning ");
        self.columns(sql);
    }

    /// The columns that the answer needs, and no more: a caller may not be allowed to read the others.
    fn columns(&self, sql: &mut Sql) {
        let alias = &self.node.alias;
        match self.needed() {
            _ if !self.returning => {
                sql.push("1");
            }
            None => {
                sql.name(alias).push(".*");
                // Columns that are functions of a row are taken here, where the row still has its type.
                for computed in self.computed() {
                    sql.push(", ").column(alias, computed);
                }
            }
            Some(columns) if columns.is_empty() => {
                sql.push("1");
            }
            Some(columns) => {
                sql.list(columns, ", ", |sql, column| {
                    sql.column(alias, column);
                });
            }
        }
    }

    fn named(&self) -> impl Iterator<Item = &str> {
        let selected = self.node.fields.iter().filter_map(|output| match output {
            Output::Column(column) => column.field.as_ref().map(|field| field.name.as_str()),
            Output::Star => None,
        });
        let ordered = self.node.order.iter().filter(|term| term.relation.is_none());
        selected.chain(ordered.map(|term| term.field.name.as_str()))
    }

    fn computed(&self) -> BTreeSet<&str> {
        self.named()
            .filter(|name| self.relation.column(name).is_none())
            .collect()
    }

    /// The columns by name; `None` for all of them.
    fn needed(&self) -> Option<BTreeSet<&str>> {
        if self.node.fields.contains(&Output::Star) {
            return None;
        }
        let mut needed: BTreeSet<&str> = self.named().collect();
        needed.extend(self.relation.key.iter().map(String::as_str));
        for child in &self.node.embeds {
            let columns = match child.link {
                Link::Function { .. } => return None,
                Link::Key { columns, .. } => columns,
                Link::Junction { to_origin, .. } => &to_origin.1,
            };
            needed.extend(columns.iter().map(|(own, _)| own.as_str()));
        }
        Some(needed)
    }
}

/// Whether a select list is the default.
pub fn is_everything(items: &[Item]) -> bool {
    items == [Item::Star]
}
