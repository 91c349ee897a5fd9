def test_tiny(tiny_study):
    print(tiny_study.axes("pca-1").to_string())
