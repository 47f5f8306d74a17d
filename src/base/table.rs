//! Plain tables of at most 100 columns.

/// Widest line, in characters.
pub const MAX_WIDTH: usize = 100;

/// A table that is printed with aligned columns; the last column is cut to fit.
#[derive(Debug, Default)]
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table with these headings; one that begins with `>` is aligned to the right.
    pub fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|h| h.starts_with('>')).collect();
        let heading = headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        Self {
            right,
            rows: vec![heading],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| cell.replace(char::is_control, " "))
                .collect(),
        );
    }

    /// Returns whether there is no row under the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// Writes the table.
    pub fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let padded = if *right {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                line.push_str(&padded);
            }
            let line = line.trim_end();
            if line.chars().count() > MAX_WIDTH {
                text.extend(line.chars().take(MAX_WIDTH - 1));
                text.push('…');
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_bounded() {
        let mut table = Table::new(&["name", ">bytes"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["long\nname".to_owned(), "1024".to_owned()]);
        assert_eq!(table.render(), "name       bytes\na              1\nlong name   1024\n");
        table.row(["x".repeat(300), "1".to_owned()]);
        assert!(table.render().lines().all(|line| line.chars().count() <= MAX_WIDTH));
    }
}
