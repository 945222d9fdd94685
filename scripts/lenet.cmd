@echo off
rem The same as scripts/lenet, for Windows; PYTHON names another Python.
setlocal
if not defined PYTHON set "PYTHON=py -3"
set EXTRA=
if "%~1"=="serve" set EXTRA=serve
%PYTHON% "%~dp0setup.py" %EXTRA% || exit /b 1
"%~dp0..\.venv\Scripts\lenet.exe" %*
