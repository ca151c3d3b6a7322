@0xb6a2f1d3c4e59708;

interface Bench {
  unary @0 (text :Text, number :UInt64, payload :Data) -> (text :Text, number :UInt64, payload :Data);
  hold @1 (text :Text, number :UInt64, payload :Data) -> (text :Text, number :UInt64, payload :Data);
  burn @2 (text :Text, number :UInt64, payload :Data) -> (text :Text, number :UInt64, payload :Data);
}
