struct Echo {
  1: string text = "",
  2: i64 number = 0,
  3: binary payload = "",
}

service Bench {
  Echo unary(1: Echo request),
  Echo hold(1: Echo request),
  Echo burn(1: Echo request),
}
