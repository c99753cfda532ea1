"""Models inside other people's engines: Ray Data, Spark, Dask."""
