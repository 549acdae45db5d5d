//! Machines, what their sensors say, and whether they failed: `data/machines.csv`, which is invented.

/// Sensors per machine.
pub(crate) const SENSORS: usize = 4;

/// One machine: what its sensors say, each as its distance from the mean in standard deviations, and whether it failed.
pub(crate) type Row = ([f64; SENSORS], bool);

/// What a site knows.
#[derive(Debug, Clone)]
pub(crate) struct Machines {
    /// Machines of this site only.
    pub(crate) own: Vec<Row>,
    /// Machines that nobody trains on, the same for all sites.
    pub(crate) others: Vec<Row>,
}

impl Machines {
    /// Every fifth row is nobody's. Of the rest a site has about half, which half follows from its name.
    pub(crate) fn of_site(site: &str) -> Self {
        let rows = rows();
        let others = rows.iter().step_by(5).copied().collect();
        let mine = |line: &usize| !line.is_multiple_of(5) && belongs(site, *line);
        let own = (0..rows.len()).filter(mine).map(|line| rows[line]).collect();
        Self { own, others }
    }
}

/// FNV-1a, of which one bit is enough.
fn belongs(site: &str, line: usize) -> bool {
    let bytes = site.bytes().chain(line.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash >> 63 == 1
}

fn rows() -> Vec<Row> {
    let table = include_str!("../../data/machines.csv");
    let mut rows: Vec<Row> = table.lines().skip(1).map(parse).collect();
    for sensor in 0..SENSORS {
        let count = rows.len() as f64;
        let mean = rows.iter().map(|(marks, _)| marks[sensor]).sum::<f64>() / count;
        let spread =
            (rows.iter().map(|(marks, _)| (marks[sensor] - mean).powi(2)).sum::<f64>() / count).sqrt();
        rows.iter_mut().for_each(|(marks, _)| marks[sensor] = (marks[sensor] - mean) / spread);
    }
    rows
}

fn parse(line: &str) -> Row {
    let fields: Vec<f64> =
        line.split(',').map(|field| field.parse().expect("the table has numbers")).collect();
    let (failed, marks) = fields.split_last().expect("a row has fields");
    (marks.try_into().expect("a row has a field for each sensor"), *failed == 1.0)
}
