//! Tables: columns as wide as their widest cell, three spaces between, no line drawing.

/// Rows under titles.
#[derive(Debug, Default)]
pub struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these titles.
    pub fn new<T: Into<String>>(titles: impl IntoIterator<Item = T>) -> Self {
        Self { titles: titles.into_iter().map(Into::into).collect(), rows: vec![] }
    }

    /// Adds a row; cells beyond the titles are dropped, missing ones are empty. A cell is one line.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| one_line(&cell.into())).collect();
        row.resize(self.titles.len(), String::new());
        self.rows.push(row);
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, with or without the line of titles, each line indented by `indent` spaces.
    pub fn render(&self, titles: Titles, indent: usize) -> String {
        let shown = match titles {
            Titles::Shown => Some(&self.titles),
            Titles::Hidden => None,
        };
        let lines: Vec<&Vec<String>> = shown.into_iter().chain(&self.rows).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.titles.len()).map(width).collect();
        let mut text = String::new();
        for line in lines {
            let mut row = " ".repeat(indent);
            for (cell, width) in line.iter().zip(&widths) {
                row.push_str(cell);
                row.push_str(&" ".repeat(width - cell.chars().count() + 3));
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Whether the first line has the titles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Titles {
    /// For people.
    Shown,
    /// For scripts (`--no-headers`).
    Hidden,
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(["NAME", "STATE", "REASON"]);
        table.row(["a", "Queued", "waits for\n8 GPUs"]);
        table.row(["längerer", "", ""]);
        assert_eq!(
            table.render(Titles::Shown, 0),
            "NAME       STATE    REASON\na          Queued   waits for 8 GPUs\nlängerer\n"
        );
        assert_eq!(table.render(Titles::Hidden, 2), "  a          Queued   waits for 8 GPUs\n  längerer\n");
    }

    #[test]
    fn a_short_row_is_filled_up() {
        let mut table = Table::new(["A", "B"]);
        table.row(["1"]);
        table.row(["1", "2", "3"]);
        assert_eq!(table.render(Titles::Shown, 0), "A   B\n1\n1   2\n");
    }
}
