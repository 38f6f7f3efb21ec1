raise RuntimeError("the licence server\nis away")
