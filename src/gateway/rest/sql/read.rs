//! Rows of a level, with what is embedded in them.

use super::{
    super::{
        catalog::{Catalog, Column as CatalogColumn, Name},
        parse::{order::Term, select::Column},
        plan::read::{Bounds, Child, Node, Output},
    },
    Sql,
    condition::{self, Embeds},
    embed::{self, Parent},
    keys::{key, keys, spread_keys},
};

/// Selects a level's rows.
pub fn rows(sql: &mut Sql, catalog: &Catalog, node: &Node<'_>) {
    Reader { catalog }.rows(sql, node, None, false);
}

/// Selects a 1 for each of a level's rows, without its limits: embeds matter only where they decide which rows there
/// are.
pub fn counted(sql: &mut Sql, catalog: &Catalog, node: &Node<'_>) {
    sql.push("select 1");
    let reader = Reader { catalog };
    embed::from(sql, node, None);
    reader.filter(sql, node, None, Embeds::Exists);
}

/// Selects a row where a parent's embed has one.
pub fn existence(sql: &mut Sql, catalog: &Catalog, parent: &Node<'_>, child: &Child<'_>) {
    let reader = Reader { catalog };
    sql.push("select 1");
    embed::from(sql, &child.node, Some((parent, child)));
    reader.filter(sql, &child.node, Some((parent, child)), Embeds::Exists);
}

pub(super) struct Reader<'a> {
    catalog: &'a Catalog,
}

impl Reader<'_> {
    /// `lifted`: aggregates are computed by the level these rows are spread into.
    pub(super) fn rows(&self, sql: &mut Sql, node: &Node<'_>, parent: Parent<'_, '_>, lifted: bool) {
        let grouped = node.has_aggregates() && !lifted;
        sql.push("select ");
        let mut separator = "";
        for output in &node.fields {
            self.output(sql, node, output, grouped || lifted, lifted, &mut separator);
        }
        for child in &node.embeds {
            if child.spread {
                for (key, aggregate) in spread_keys(child) {
                    sql.push(separator);
                    separator = ", ";
                    match aggregate.filter(|_| !lifted) {
                        Some(column) => aggregated(sql, column, |sql| {
                            sql.column(&child.joined, &key);
                        }),
                        None => embed::spread(sql, child, &key),
                    }
                    sql.push(" as ").name(&key);
                }
            } else if !child.node.is_empty() {
                sql.push(separator);
                separator = ", ";
                embed::value(sql, child);
                sql.push(" as ").name(&child.key);
            }
        }
        if separator.is_empty() && parent.is_some() {
            // Nothing is taken, but that there is a row may matter.
            sql.push("1");
        }
        embed::from(sql, node, parent);
        for child in &node.embeds {
            embed::join(sql, self, node, child);
        }
        self.filter(sql, node, parent, Embeds::Joined);
        if grouped {
            self.group(sql, node);
        }
        self.order(sql, node);
        bounds(sql, node);
    }

    fn output(
        &self,
        sql: &mut Sql,
        node: &Node<'_>,
        output: &Output,
        expand: bool,
        lifted: bool,
        separator: &mut &str,
    ) {
        match output {
            Output::Star => {
                let columns = node
                    .relation
                    .map_or(&[] as &[_], |relation| relation.columns.as_slice());
                let formatted = columns.iter().any(|column| self.formatter(column).is_some());
                if columns.is_empty() || !(expand || formatted) {
                    sql.push(separator).name(&node.alias).push(".*");
                    *separator = ", ";
                    return;
                }
                for column in columns {
                    sql.push(separator);
                    *separator = ", ";
                    self.known_column(sql, node, column);
                    sql.push(" as ").name(&column.name);
                }
            }
            Output::Column(column) => {
                sql.push(separator);
                *separator = ", ";
                match &column.aggregate {
                    Some(_) if !lifted => aggregated(sql, column, |sql| self.plain(sql, node, column)),
                    _ => self.plain(sql, node, column),
                }
                sql.push(" as ").name(key(column));
            }
        }
    }

    /// A column before it is aggregated.
    fn plain(&self, sql: &mut Sql, node: &Node<'_>, column: &Column) {
        let Some(field) = &column.field else {
            // What is counted: a row that is there.
            sql.push("1");
            return;
        };
        let known = node.relation.and_then(|relation| relation.column(&field.name));
        if column.cast.is_some() {
            sql.push("cast(");
        }
        match known.filter(|_| field.path.is_empty() && column.aggregate.is_none()) {
            Some(known) => self.known_column(sql, node, known),
            None => condition::field(sql, &node.alias, known, field),
        }
        if let Some(cast) = &column.cast {
            sql.push(" as ").push(cast).push(")");
        }
    }

    /// A column as it is shown; a domain may say how.
    fn known_column(&self, sql: &mut Sql, node: &Node<'_>, column: &CatalogColumn) {
        match self.formatter(column) {
            Some(formatter) => sql
                .qualified(formatter)
                .push("(")
                .column(&node.alias, &column.name)
                .push(")"),
            None => sql.column(&node.alias, &column.name),
        };
    }

    fn formatter(&self, column: &CatalogColumn) -> Option<&Name> {
        self.catalog.representation(column)?.format.as_ref()
    }

    fn filter(&self, sql: &mut Sql, node: &Node<'_>, parent: Parent<'_, '_>, embeds: Embeds) {
        sql.push(" where ");
        if let Some((parent, child)) = parent
            && embed::link(sql, parent, child)
        {
            sql.push(" and ");
        }
        condition::all(sql, self.catalog, node, embeds);
        if embeds == Embeds::Exists {
            for child in node.embeds.iter().filter(|child| child.inner) {
                sql.push(" and exists (");
                existence(sql, self.catalog, node, child);
                sql.push(")");
            }
        }
    }

    fn group(&self, sql: &mut Sql, node: &Node<'_>) {
        let mut separator = " group by ";
        for output in &node.fields {
            match output {
                Output::Star => {
                    for column in node
                        .relation
                        .map_or(&[] as &[_], |relation| relation.columns.as_slice())
                    {
                        sql.push(separator).column(&node.alias, &column.name);
                        separator = ", ";
                    }
                }
                Output::Column(column) if column.aggregate.is_none() => {
                    sql.push(separator);
                    self.plain(sql, node, column);
                    separator = ", ";
                }
                Output::Column(_) => {}
            }
        }
        for child in &node.embeds {
            if child.spread {
                for (key, _) in spread_keys(child)
                    .into_iter()
                    .filter(|(_, aggregate)| aggregate.is_none())
                {
                    sql.push(separator).column(&child.joined, &key);
                    separator = ", ";
                }
            } else if !child.node.is_empty() {
                sql.push(separator);
                embed::value(sql, child);
                separator = ", ";
            }
        }
    }

    fn order(&self, sql: &mut Sql, node: &Node<'_>) {
        if node.order.is_empty() {
            return;
        }
        sql.push(" order by ");
        sql.list(&node.order, ", ", |sql, term| {
            self.order_by(sql, node, term);
            for word in [term.direction, term.nulls].into_iter().flatten() {
                sql.push(" ").push(word);
            }
        });
    }

    fn order_by(&self, sql: &mut Sql, node: &Node<'_>, term: &Term) {
        let column = |node: &Node<'_>| {
            node.relation
                .and_then(|relation| relation.column(&term.field.name))
                .cloned()
        };
        match term.relation.as_deref().and_then(|relation| node.embed(relation)) {
            // What is spread into the rows is there already, grouped with them if they are grouped.
            Some(child)
                if child.spread && term.field.path.is_empty() && keys(&child.node).contains(&term.field.name) =>
            {
                sql.column(&child.joined, &term.field.name);
            }
            Some(child) => {
                sql.push("(select ");
                condition::field(sql, &child.node.alias, column(&child.node).as_ref(), &term.field);
                embed::from(sql, &child.node, Some((node, child)));
                self.filter(sql, &child.node, Some((node, child)), Embeds::Exists);
                sql.push(" limit 1)");
            }
            None => condition::field(sql, &node.alias, column(node).as_ref(), &term.field),
        }
    }
}

fn aggregated(sql: &mut Sql, column: &Column, value: impl FnOnce(&mut Sql)) {
    let Some(aggregate) = &column.aggregate else {
        return value(sql);
    };
    if aggregate.cast.is_some() {
        sql.push("cast(");
    }
    sql.push("pg_catalog.").push(aggregate.function).push("(");
    value(sql);
    sql.push(")");
    if let Some(cast) = &aggregate.cast {
        sql.push(" as ").push(cast).push(")");
    }
}

fn bounds(sql: &mut Sql, node: &Node<'_>) {
    let (limit, offset) = match node.window {
        Bounds::All => (None, None),
        Bounds::Range(range) => (range.limit(), Some(range.first).filter(|first| *first > 0)),
        Bounds::Window(window) => (window.limit, window.offset),
    };
    if let Some(limit) = limit {
        // Not as a parameter: the planner is to know that a page is short.
        sql.push(" limit ").push(&limit.to_string());
    }
    if let Some(offset) = offset {
        sql.push(" offset ").value(offset.to_string());
    }
}
